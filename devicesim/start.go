package devicesim

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/touchmark/touchmark/device/licence"
)

// Started is what became of units whose firmware asks for a licence.
type Started struct {
	Units   int            `json:"units"`
	Running int            `json:"running"`
	Stopped map[string]int `json:"stopped"` // by reason
}

func (s *Started) String() string {
	text := fmt.Sprintf("%d of %d units run", s.Running, s.Units)
	var reasons []string
	for why := range s.Stopped {
		reasons = append(reasons, why)
	}
	slices.Sort(reasons)
	for _, why := range reasons {
		text += fmt.Sprintf("; %d stopped: %s", s.Stopped[why], why)
	}
	return text
}

// Start powers units on whose firmware wants a licence for the chip: dir has
// them, as UID.lic.
func Start(units []*Unit, dir string, policy licence.Policy) (*Started, error) {
	s := &Started{Units: len(units), Stopped: map[string]int{}}
	for _, u := range units {
		uid, err := hex.DecodeString(u.UID)
		if err != nil {
			return nil, fmt.Errorf("unit %s has the UID %q: %w", u.Serial, u.UID, err)
		}
		bytes, err := os.ReadFile(filepath.Join(dir, u.UID+".lic"))
		if errors.Is(err, fs.ErrNotExist) {
			bytes, err = make([]byte, licence.Size), nil // blank memory
		}
		if err != nil {
			return nil, err
		}
		if err := licence.Check(bytes, uid, policy); err != nil {
			s.Stopped[err.Error()]++
			continue
		}
		s.Running++
	}
	return s, nil
}
