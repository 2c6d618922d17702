package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/touchmark/touchmark/device"
)

// Config is the configuration file, in YAML. Unknown keys are refused. Paths
// that are not absolute are below the file's directory.
type Config struct {
	// Serial is the device's serial number, as the record has it; or SerialFile
	// names a file that holds it, such as /sys/class/dmi/id/product_serial.
	Serial     string `yaml:"serial"`
	SerialFile string `yaml:"serial-file"`

	// Server is the address of EST, https://HOST:PORT.
	Server string `yaml:"server"`
	// MQTT is a broker's HOST:PORT. If it is set, enrolment, activation and
	// renewal go that way, and the agent hears notices; Server may then be left
	// out.
	MQTT string `yaml:"mqtt"`
	// Product is the product's name; it may be left out.
	Product string `yaml:"product"`
	// Root is a file with the root certificate, in PEM.
	Root string `yaml:"root"`

	// Dir is where the agent keeps keys, certificates and its status.
	Dir string `yaml:"dir"`
	// Keys is where private keys are: file: (in Dir, the default), tpmkms:… in a
	// TPM, pkcs11:… in a token.
	Keys string `yaml:"keys"`
	// KeyType of new keys: P-256 (the default), P-384, RSA-2048, RSA-3072 or, in
	// files, Ed25519.
	KeyType device.KeyKind `yaml:"key-type"`
	// Rekey makes each renewal take a new key.
	Rekey bool `yaml:"rekey"`

	// Proof is what lets the device in at first: bootstrap (its bootstrap key,
	// the default), tpm (its TPM, where the keys must be, then) or code (a
	// one-time code, in CodeFile).
	Proof    string `yaml:"proof"`
	CodeFile string `yaml:"code-file"`

	Files Files `yaml:"files"`
	Hook  Hook  `yaml:"hook"`

	// Refused is how long the agent waits after a refusal; an hour by default.
	Refused time.Duration `yaml:"refused"`
}

// What a device may prove itself by.
const (
	ProofBootstrap = "bootstrap"
	ProofTPM       = "tpm"
	ProofCode      = "code"
)

// Files are copies for the programs that use the certificate; "" makes none.
type Files struct {
	// Certificate is the certificate with the CA certificates after it, Chain
	// those alone, Roots what it leads to, Bundle the key, or what it is found
	// by in a TPM or token, with the certificates after it. All are PEM.
	Certificate string `yaml:"certificate"`
	Chain       string `yaml:"chain"`
	Roots       string `yaml:"roots"`
	Bundle      string `yaml:"bundle"`
	// Owner and Group, names or numbers, own the files. Mode is theirs, in octal;
	// 0644, and 0600 for Bundle, by default.
	Owner      string `yaml:"owner"`
	Group      string `yaml:"group"`
	Mode       Mode   `yaml:"mode"`
	BundleMode Mode   `yaml:"bundle-mode"`
}

// Hook is a command for when the files changed.
type Hook struct {
	// Command is the program and its arguments. No shell is in between.
	Command []string `yaml:"command"`
	// Timeout is how long it may take; a minute by default.
	Timeout time.Duration `yaml:"timeout"`
}

const (
	defaultRefused = time.Hour
	defaultTimeout = time.Minute
)

// Load reads a configuration file and completes it with what was left out.
func Load(file string) (*Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	c := &Config{Dir: "/var/lib/touchmark-agent", Keys: "file:", KeyType: device.P256, Proof: ProofBootstrap, Refused: defaultRefused}
	c.Files.Mode, c.Files.BundleMode, c.Hook.Timeout = 0o644, 0o600, defaultTimeout
	if len(bytes.TrimSpace(data)) > 0 {
		if err := yaml.UnmarshalWithOptions(data, c, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("%s: %s", file, yaml.FormatError(err, false, true))
		}
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	c.below(dir)
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// below makes paths absolute.
func (c *Config) below(dir string) {
	for _, p := range []*string{&c.SerialFile, &c.Root, &c.Dir, &c.CodeFile, &c.Files.Certificate, &c.Files.Chain, &c.Files.Roots, &c.Files.Bundle} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func (c *Config) check() error {
	if c.SerialFile != "" && c.Serial == "" {
		b, err := os.ReadFile(c.SerialFile)
		if err != nil {
			return fmt.Errorf("serial-file: %w", err)
		}
		c.Serial = strings.TrimSpace(string(b))
	}
	switch {
	case c.Serial == "":
		return errors.New("serial: which device is this? Name its serial number, or a file that holds it in serial-file")
	case c.Root == "":
		return errors.New("root: name the file with the server's root certificate")
	case c.Proof != ProofBootstrap && c.Proof != ProofCode && c.Proof != ProofTPM:
		return fmt.Errorf("proof: %q is none; want %s, %s or %s", c.Proof, ProofBootstrap, ProofTPM, ProofCode)
	case c.Proof == ProofTPM && !strings.HasPrefix(c.Keys, "tpmkms:"):
		return errors.New("proof: a TPM proves only keys that are in it: say keys: tpmkms:device=/dev/tpmrm0")
	case c.Proof == ProofCode && (c.CodeFile == "" || c.MQTT != ""):
		return errors.New("proof: a code stands in code-file, and goes over EST: name server, and no mqtt")
	case c.Refused < time.Minute || c.Hook.Timeout <= 0:
		return errors.New("refused must be a minute or more, and the hook's timeout more than nothing")
	}
	return c.checkServer()
}

func (c *Config) checkServer() error {
	if c.MQTT != "" {
		if _, _, err := net.SplitHostPort(c.MQTT); err != nil {
			return fmt.Errorf("mqtt: %q is not HOST:PORT: %w", c.MQTT, err)
		}
		return nil
	}
	u, err := url.Parse(c.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("server: %q is not https://HOST:PORT", c.Server)
	}
	return nil
}
