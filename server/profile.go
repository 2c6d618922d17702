package server

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Profile is how a command line reaches a server: the file cli.yaml that
// init writes. Relative paths count from the file.
type Profile struct {
	// Server is the address of the operators' API, "https://HOST:PORT".
	Server string `yaml:"server"`
	// Certificate is the operator's, a PEM file.
	Certificate string `yaml:"certificate"`
	// Key is the operator's: a PEM file, or a URI such as pkcs11:… (see package
	// internal/keys).
	Key string `yaml:"key"`
	// CA is the root certificate that the server's certificate chains to.
	CA string `yaml:"ca"`
}

// inKeyStore finds URIs of keys that are in no file.
var inKeyStore = regexp.MustCompile(`^(pkcs11|[a-z]+kms):`)

// LoadProfile reads a profile and resolves its paths.
func LoadProfile(path string) (*Profile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p := new(Profile)
	if err := decodeStrict(path, text, p); err != nil {
		return nil, err
	}
	for _, f := range []*string{&p.Certificate, &p.Key, &p.CA} {
		if *f != "" && !filepath.IsAbs(*f) && !inKeyStore.MatchString(*f) {
			*f = filepath.Join(filepath.Dir(path), *f)
		}
	}
	return p, nil
}

// Text gives the profile as a file.
func (p *Profile) Text() string {
	var b strings.Builder
	b.WriteString("# How `touchmark --dir DIR product|site|order|…` reaches the server, and as whom.\n")
	for _, f := range [...]struct{ key, value string }{{"server", p.Server}, {"certificate", p.Certificate}, {"key", p.Key}, {"ca", p.CA}} {
		if f.value != "" {
			fmt.Fprintf(&b, "%s: %q\n", f.key, f.value)
		}
	}
	return b.String()
}
