package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

// manifestFile lists the units of a directory; it also says which MAC
// addresses and UIDs they have.
const manifestFile = "manifest.jsonl"

// readUnits opens the units that `factory` built in a directory, or those of
// them that are named.
func readUnits(dir string, serials []string) ([]*devicesim.Unit, error) {
	if len(serials) == 0 {
		names, err := filepath.Glob(filepath.Join(dir, "*", "bootstrap.pem"))
		if err != nil || len(names) == 0 {
			return nil, noUnits(dir)
		}
		for _, name := range names {
			serials = append(serials, filepath.Base(filepath.Dir(name)))
		}
	}
	listed, err := readListed(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, err
	}
	units := make([]*devicesim.Unit, len(serials))
	for i, serial := range serials {
		u := listed[serial]
		if u == nil {
			u = &devicesim.Unit{Serial: serial} // an earlier manifest's
		}
		if _, err := os.Stat(filepath.Join(dir, serial, "bootstrap.pem")); err != nil {
			return nil, fmt.Errorf("there is no unit %s: %w", serial, err)
		}
		if u.Store, err = device.OpenFileStore(filepath.Join(dir, serial)); err != nil {
			return nil, err
		}
		units[i] = u
	}
	return units, nil
}

func readListed(name string) (map[string]*devicesim.Unit, error) {
	listed := map[string]*devicesim.Unit{}
	manifest, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return listed, nil
	}
	if err != nil {
		return nil, err
	}
	units, err := devicesim.ReadManifest(manifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, u := range units {
		listed[u.Serial] = u
	}
	return listed, nil
}

func noUnits(dir string) error {
	return fmt.Errorf("%s holds no units: build some with `devicesim factory --out %s`", dir, dir)
}
