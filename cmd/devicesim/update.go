package main

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/touchmark/touchmark/device/firmware"
	"github.com/touchmark/touchmark/devicesim"
)

func updateCommand() *cobra.Command {
	var keys []string
	var vendor, class, refused, decrypt string
	var asJSON bool
	c := &cobra.Command{
		Use:   "update --key FILE DIR IMAGE",
		Short: "Offers an MCUboot image to the units that `factory` built",
		Long: `Offers an MCUboot image to the units in DIR. Each checks the signature, its
device class and its security counter, installs the image in DIR/SERIAL/flash,
starts it, and raises its counter; or it says why it does not. With --decrypt
the units have a key that decrypts images that are for it.

The exit status is 0 if every unit installed it; with --refused REASON, if
every unit refused it for that reason: damaged, forged, foreign, sealed or
downgrade.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) (err error) {
			var trust firmware.Trust
			if trust.Keys, err = publicKeys(keys); err != nil {
				return err
			}
			if trust.Vendor, err = uuid("vendor", vendor); err != nil {
				return err
			}
			if trust.Class, err = uuid("class", class); err != nil {
				return err
			}
			if trust.Decrypt, err = decryptionKey(decrypt); err != nil {
				return err
			}
			dirs, err := unitDirs(args[0])
			if err != nil {
				return err
			}
			update, err := devicesim.InstallAll(dirs, trust, args[1])
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(update)
			} else {
				_, err = fmt.Fprintln(c.OutOrStdout(), update)
			}
			if err != nil {
				return err
			}
			return expected(update, firmware.Reason(refused))
		},
	}
	c.Flags().StringSliceVar(&keys, "key", nil, "the bootloader's public `key`, PEM; two while keys change")
	c.Flags().StringVar(&vendor, "vendor", "", "the units' vendor `UUID`, which an image must name")
	c.Flags().StringVar(&class, "class", "", "the units' class `UUID`, which an image must name")
	c.Flags().StringVar(&decrypt, "decrypt", "", "the private key `file` (PKCS#8 PEM; X25519 or P-256) that decrypts images")
	c.Flags().StringVar(&refused, "refused", "", "the `reason` for which every unit should refuse it")
	c.Flags().BoolVar(&asJSON, "json", false, "report as JSON")
	_ = c.MarkFlagRequired("key") // it exists
	return c
}

// expected is an error if not every unit did as it should.
func expected(u *devicesim.Update, refused firmware.Reason) error {
	switch {
	case refused == "" && u.Installed < u.Units:
		return fmt.Errorf("%d of %d units did not install %s", u.Units-u.Installed, u.Units, u.Image)
	case refused != "" && u.Refused[refused] < u.Units:
		return fmt.Errorf("%d of %d units did not refuse %s as %s", u.Units-u.Refused[refused], u.Units, u.Image, refused)
	}
	return nil
}

func unitDirs(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*", "bootstrap.pem"))
	if err != nil || len(names) == 0 {
		return nil, noUnits(dir)
	}
	for i := range names {
		names[i] = filepath.Dir(names[i])
	}
	return names, nil
}

func publicKeys(files []string) (keys []crypto.PublicKey, err error) {
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("--key %s: no PEM", name)
		}
		var key crypto.PublicKey
		if block.Type == "CERTIFICATE" {
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				key = cert.PublicKey
			}
		} else {
			key, err = x509.ParsePKIXPublicKey(block.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("--key %s: want a public key or a certificate: %w", name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// decryptionKey reads a private key; nil if the file is "".
func decryptionKey(file string) (*ecdh.PrivateKey, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("--decrypt %s: no PEM", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("--decrypt %s: %w", file, err)
	}
	switch key := key.(type) {
	case *ecdh.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key.ECDH()
	}
	return nil, fmt.Errorf("--decrypt %s: a key of type %T decrypts nothing: want X25519 or P-256", file, key)
}

// uuid reads one as people write it; "" is all zeros.
func uuid(flag, text string) (id [16]byte, err error) {
	if text == "" {
		return id, nil
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("--%s %q is no UUID: write it as 7d7b0e21-8cb3-4eb5-9b80-3bd2a3a53d6b", flag, text)
	}
	return [16]byte(raw), nil
}
