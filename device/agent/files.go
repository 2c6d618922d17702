package agent

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/atomicfile"
)

// Mode is a file's mode, written in octal.
type Mode fs.FileMode

// UnmarshalYAML reads a mode: 0640 or "0640".
func (m *Mode) UnmarshalYAML(data []byte) error {
	text := string(bytes.Trim(bytes.TrimSpace(data), `"'`))
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return fmt.Errorf("%q is not a file's mode in octal, such as 0640", text)
	}
	*m = Mode(n)
	return nil
}

// content is what is delivered, by the name of its file.
type content struct {
	path string
	data []byte
	mode Mode
}

// contents are the files that a credential asks for.
func (f *Files) contents(c *device.Credential, roots []*x509.Certificate) ([]content, error) {
	bundle, err := c.PEM()
	if err != nil {
		return nil, err
	}
	var out []content
	for _, file := range []content{
		{f.Roots, certificates(roots), f.Mode},
		{f.Chain, certificates(c.Chain[1:]), f.Mode},
		{f.Certificate, certificates(c.Chain), f.Mode},
		{f.Bundle, bundle, f.BundleMode},
	} {
		if file.path != "" {
			out = append(out, file)
		}
	}
	return out, nil
}

func certificates(list []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range list {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes all
	}
	return b.Bytes()
}

// digest names what is delivered, so that the hook runs once for it.
func digest(c *device.Credential, roots []*x509.Certificate) string {
	sum := sha256.Sum256(append(certificates(c.Chain), certificates(roots)...))
	return hex.EncodeToString(sum[:])
}

// write writes those files that are not as they should be, and reports whether
// there was one.
func (f *Files) write(files []content) (changed bool, err error) {
	look := atomicfile.Look{UID: -1, GID: -1}
	if look.UID, err = number(f.Owner, lookupUser); err != nil {
		return false, err
	}
	if look.GID, err = number(f.Group, lookupGroup); err != nil {
		return false, err
	}
	for _, file := range files {
		look.Mode = fs.FileMode(file.mode)
		as, err := file.is(look)
		if err != nil {
			return changed, err
		}
		if as {
			continue
		}
		if err := atomicfile.Write(file.path, file.data, look); err != nil {
			return changed, fmt.Errorf("write %s: %w", file.path, err)
		}
		changed = true
	}
	return changed, nil
}

// is reports whether the file is as it should be: what it holds, and its look.
func (c *content) is(look atomicfile.Look) (bool, error) {
	have, err := os.ReadFile(c.path)
	var s syscall.Stat_t
	if err == nil {
		err = syscall.Stat(c.path, &s)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	owned := (look.UID < 0 || look.UID == int(s.Uid)) && (look.GID < 0 || look.GID == int(s.Gid))
	return owned && fs.FileMode(s.Mode).Perm() == look.Mode && bytes.Equal(have, c.data), err
}

// number is the number of a user or group, or -1 if none is named.
func number(name string, lookup func(string) (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	id, err := lookup(name)
	if err != nil {
		return 0, fmt.Errorf("files: %w", err)
	}
	return strconv.Atoi(id)
}

func lookupUser(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return u.Uid, nil
}

func lookupGroup(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return "", err
	}
	return g.Gid, nil
}
