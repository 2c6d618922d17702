package firmware

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/touchmark/touchmark/device/atomicfile"
)

// Allow refuses an image whose security counter is below the device's. The
// same counter passes: most versions close no hole.
func Allow(im *Image, counter uint32) error {
	if im.Counter < counter {
		return refuse(Downgrade, "the image of version %s has security counter %d, but this device has been at %d: an older image may have holes that were closed since", im.Version, im.Counter, counter)
	}
	return nil
}

// Slots are a directory with the image that runs and the one that is to run
// next. Only one process works on it at a time. Whatever moment power is cut
// at, repeating the call brings it to its end.
type Slots struct {
	Dir   string
	Trust Trust
}

func (s *Slots) path(name string) string { return filepath.Join(s.Dir, name) }

// Counter is the highest security counter that the device has confirmed, 0
// on a new device.
func (s *Slots) Counter() (uint32, error) {
	text, err := os.ReadFile(s.path("counter"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s: not a counter: %w", s.path("counter"), err)
	}
	return uint32(n), nil
}

// Running is the image that runs, or nil on a new device.
func (s *Slots) Running() (*Image, error) { return s.open("running.img") }

// Next is the image that is to run next, or nil.
func (s *Slots) Next() (*Image, error) { return s.open("next.img") }

// open verifies what is in a slot.
func (s *Slots) open(name string) (*Image, error) {
	file, err := os.Open(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return s.verify(file)
}

func (s *Slots) verify(file *os.File) (*Image, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return Verify(file, info.Size(), s.Trust)
}

// Install writes an image beside the one that runs, to be started next. What
// is checked is what was written, so nobody can exchange it in between. An
// image that waited there already is replaced, but not by one that is refused.
func (s *Slots) Install(image io.Reader) (im *Image, err error) {
	counter, err := s.Counter()
	if err != nil {
		return nil, err
	}
	tmp := s.path("incoming.tmp")
	file, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp) // fails, as it should, once it is renamed
	if _, err = io.Copy(file, image); err == nil {
		err = file.Sync()
	}
	if err == nil {
		if im, err = s.verify(file); err == nil {
			err = Allow(im, counter)
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, s.path("next.img")); err != nil {
		return nil, err
	}
	return im, atomicfile.SyncDir(s.Dir)
}

// Confirm says that the next image was started and works: it becomes the one
// that runs, and from now on nothing with a lower counter is installed.
func (s *Slots) Confirm() error {
	next, err := s.Next()
	if err != nil {
		return err
	}
	if next == nil {
		return errors.New("there is no next image to confirm: install one first")
	}
	counter, err := s.Counter()
	if err != nil {
		return err
	}
	if err := Allow(next, counter); err != nil {
		return err
	}
	// First the counter: a cut after it leaves the next image where it was,
	// and Confirm can be called again.
	if err := atomicfile.Write(s.path("counter"), strconv.AppendUint(nil, uint64(next.Counter), 10), atomicfile.Private); err != nil {
		return err
	}
	if err := os.Rename(s.path("next.img"), s.path("running.img")); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.Dir)
}
