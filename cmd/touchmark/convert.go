package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

func (a *app) manifestConvert() *cobra.Command {
	var how manifest.Conversion
	var serial, uid vetting.NameRule
	var format, out, signers string
	c := &cobra.Command{
		Use: "convert FILE", Short: "Make a manifest of a chip vendor's file, offline", Args: cobra.ExactArgs(1),
		Long: `convert reads the file in which a vendor lists its chips and writes a manifest in JSON Lines, which you then sign and upload:

  microchip   JSON array of signed entries. --signer has the certificates whose signatures count.
  infineon    ZIP archive of PEM certificates. The serial number is the X.509 one, unless --serial says otherwise.
  espressif   CSV with the columns MAC, cn and cert. The common name is the serial number.
  tpm         CSV with the column serial and one of ekCertificate, ekPublicKey, ekHash.

An identifier in a certificate may stand in
  ` + vendorid.Places + `.
If anything in the file is wrong, all of it is listed and no manifest is written.`,
		Example: `  touchmark manifest convert chips.json --format microchip --signer mchp_manifest_signer.crt -o units.jsonl
  touchmark manifest convert certs.zip --format infineon --uid subject.commonName -o units.jsonl
  touchmark manifest convert modules.csv --format espressif -o units.jsonl
  touchmark manifest convert tpms.csv --format tpm -o units.jsonl`,
	}
	f := c.Flags()
	f.StringVar(&format, "format", "", "whose file it is: microchip, infineon, espressif, tpm")
	f.StringVarP(&out, "output", "o", "", "where the manifest goes, a new `file`")
	f.StringVar(&signers, "signer", "", "microchip: certificates of the manifest's signers, a PEM `file`")
	f.StringVar(&how.Key, "key", "0", "microchip: the kid of the key that devices enrol with")
	f.StringVar(&how.Distributor, "distributor", "", "microchip: refuse entries for another distributor's `organization`")
	f.StringVar(&serial.From, "serial", "", "infineon: where the certificate has the serial number, such as subject.commonName")
	f.StringVar(&serial.Pattern, "serial-pattern", "", "infineon: a regular expression that matches all of it; its one ( ) is the serial number")
	f.StringVar(&uid.From, "uid", "", "infineon: where the certificate has the chip's UID")
	f.StringVar(&uid.Pattern, "uid-pattern", "", "infineon: a regular expression that matches all of it; its one ( ) is the UID")
	oneOf(c, "format", manifest.VendorFormats...)
	_ = c.MarkFlagRequired("format")
	_ = c.MarkFlagRequired("output")
	c.RunE = func(_ *cobra.Command, args []string) (err error) {
		how.Format = manifest.VendorFormat(format)
		if how.Serial, err = given("serial", serial); err != nil {
			return err
		}
		if how.UID, err = given("uid", uid); err != nil {
			return err
		}
		if how.Signers, err = certificates(signers); err != nil {
			return err
		}
		n, err := convert(args[0], out, how)
		if wrong := new(manifest.LineErrors); errors.As(err, &wrong) {
			for _, l := range wrong.List {
				fmt.Fprintf(a.err, "%s: %s %d: %s\n", args[0], counts(how.Format), l.Line, l.Text)
			}
			return fmt.Errorf("%s holds %s: no manifest was written", args[0], counted(wrong.Total, "error", "errors"))
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "%s: %s. Next: touchmark manifest upload ORDER %s --sign\n", out, counted(n, "record", "records"), out)
		return nil
	}
	return c
}

// counts says what a format's findings are counted by.
func counts(f manifest.VendorFormat) string {
	if f == manifest.Infineon {
		return "file"
	}
	return "line"
}

// given is a name rule that flags gave; nil if none did.
func given(flag string, r vetting.NameRule) (*vetting.NameRule, error) {
	switch {
	case r.From != "":
		return &r, nil
	case r.Pattern != "":
		return nil, usagef("--%s-pattern needs --%s, which says what is to match it", flag, flag)
	}
	return nil, nil
}

// certificates reads a PEM file of certificates; "" has none.
func certificates(file string) (list []*x509.Certificate, err error) {
	if file == "" {
		return nil, nil
	}
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return list, nil
}

// convert writes the manifest, or no file at all.
func convert(from, to string, how manifest.Conversion) (n int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return 0, err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(to))
		}
	}()
	return manifest.Convert(in, info.Size(), out, how)
}
