package devicesim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/touchmark/touchmark/device/firmware"
)

// Flash is where a unit keeps its firmware in its own directory.
const Flash = "flash"

// Update is what became of an image on a number of units.
type Update struct {
	Image string `json:"image"`
	Units int    `json:"units"`
	// Installed counts the units that run it now, Refused the others, by
	// the device's reason.
	Installed int                     `json:"installed"`
	Refused   map[firmware.Reason]int `json:"refused"`
	// Text is what the last unit that refused it said.
	Text string `json:"text,omitempty"`
	// Version and Counter are those of the image, once a unit installed it.
	Version string `json:"version,omitempty"`
	Counter uint32 `json:"counter,omitempty"`
}

func (u *Update) String() string {
	var b strings.Builder
	if u.Installed > 0 {
		fmt.Fprintf(&b, "%d of %d units run version %s, with security counter %d", u.Installed, u.Units, u.Version, u.Counter)
	}
	for _, why := range []firmware.Reason{firmware.Damaged, firmware.Forged, firmware.Foreign, firmware.Sealed, firmware.Downgrade} {
		if n := u.Refused[why]; n > 0 {
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			fmt.Fprintf(&b, "%d of %d units refuse it (%s): %s", n, u.Units, why, u.Text)
		}
	}
	return b.String()
}

// InstallAll offers an image to units, which restart into it if they take it.
// dirs are the units' directories. A refusal is no error.
func InstallAll(dirs []string, trust firmware.Trust, image string) (*Update, error) {
	u := &Update{Image: image, Units: len(dirs), Refused: map[firmware.Reason]int{}}
	for _, dir := range dirs {
		im, err := install(filepath.Join(dir, Flash), trust, image)
		var refusal *firmware.Refusal
		switch {
		case errors.As(err, &refusal):
			u.Refused[refusal.Reason]++
			u.Text = refusal.Text
		case err != nil:
			return nil, fmt.Errorf("unit %s: %w", filepath.Base(dir), err)
		default:
			u.Installed++
			u.Version, u.Counter = im.Version.String(), im.Counter
		}
	}
	return u, nil
}

func install(dir string, trust firmware.Trust, image string) (*firmware.Image, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	slots := &firmware.Slots{Dir: dir, Trust: trust}
	im, err := slots.Install(file)
	if err != nil {
		return nil, err
	}
	return im, slots.Confirm()
}
