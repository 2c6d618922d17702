package rauc

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// verity is what a manifest says of the hash tree.
type verity struct {
	root, salt []byte
	size       int64
}

// readManifest reads what matters here of a manifest: an INI file as GLib
// writes it.
func readManifest(text []byte) (info Info, v verity, err error) {
	values, err := readINI(text)
	if err != nil {
		return info, v, err
	}
	info = Info{Compatible: values["update.compatible"], Version: values["update.version"], Format: values["bundle.format"], Manifest: text}
	switch {
	case info.Compatible == "":
		return info, v, errors.New("it does not say what the update is for ([update], compatible)")
	case info.Format == "" || info.Format == "plain":
		return info, v, errors.New("the bundle is of the format plain: build it with format=verity, or crypt")
	case info.Format != "verity" && info.Format != "crypt":
		return info, v, fmt.Errorf("the bundle is of the format %q: verity and crypt are known", info.Format)
	}
	if v.root, err = hex.DecodeString(values["bundle.verity-hash"]); err != nil || len(v.root) != 32 {
		return info, v, fmt.Errorf("verity-hash %q is no SHA-256", values["bundle.verity-hash"])
	}
	if v.salt, err = hex.DecodeString(values["bundle.verity-salt"]); err != nil || len(v.salt) != 32 {
		return info, v, fmt.Errorf("verity-salt %q is not 32 bytes", values["bundle.verity-salt"])
	}
	v.size, err = strconv.ParseInt(values["bundle.verity-size"], 10, 64)
	if err != nil || v.size <= 0 || v.size%blockSize != 0 {
		return info, v, fmt.Errorf("verity-size %q is no number of blocks of %d", values["bundle.verity-size"], blockSize)
	}
	return info, v, nil
}

// readINI gives the values by "section.key". A key that is there twice is
// refused: readers differ in which one they take.
func readINI(text []byte) (map[string]string, error) {
	values := map[string]string{}
	section := ""
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[' && line[len(line)-1] == ']':
			section = line[1 : len(line)-1]
		default:
			key, value, ok := strings.Cut(line, "=")
			name := section + "." + strings.TrimSpace(key)
			if _, twice := values[name]; !ok || twice {
				return nil, fmt.Errorf("the line %q is no value, or there twice", line)
			}
			values[name] = strings.TrimSpace(value)
		}
	}
	return values, nil
}
