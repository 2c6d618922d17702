// Package catalogue has the formats of signed firmware by name, each with its
// parameters as texts: what a release keeps of how a file is signed, and what
// a command line is told.
//
// To add a format, write its [Format] in a file of its own, and put it into
// [Formats].
package catalogue

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// Formats lists every format.
var Formats = []*Format{mcubootFormat, raucFormat, swupdateFormat, fitFormat, authenticodeFormat, kmodFormat, esp32Format, cmsFormat, rawFormat}

// Format is one format: what it is told, and how it signs and verifies.
type Format struct {
	Name       string
	About      string // one line
	Parameters []Parameter
	// Suffix is what the name of the output adds to that of the file.
	Suffix string
	// Detached says that the output is a signature beside the file.
	Detached bool
	// Stamp is how the output holds a time stamp inside; nil if it cannot: then
	// that is a file beside it.
	Stamp *Stamp
	// Certified is nil if verifiers know the keys themselves.
	Certified Certified
	MaxKeys   int // how many keys may sign
	// New makes a signing of the parameters.
	New func(*Values, []Signer) (firmwaresign.Format, error)
	// Verify checks an output by code that shares none with what made it.
	Verify func(*Values, Output) error
	// Digests says that Verify tells Output.Digested.
	Digests bool
	// Key is what a device's build needs of a key; nil if that is the public key
	// (PEM).
	Key func(*Values, Signer) ([]byte, error)
	// Programs check an output, too, where they are installed. They get the
	// names of files and are run without a shell.
	Programs []Program
	// Encryption is how files are encrypted; nil if the format cannot be.
	Encryption *Encryption
}

// Parameter is one thing that a format is told.
type Parameter struct {
	Name  string
	About string
	// Default is "" for one that is absent then; "{version}" and "{counter}"
	// are the release's.
	Default string
}

// Signer is a key that signs.
type Signer struct {
	Public      crypto.PublicKey
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // without the root
}

// Output is what is verified.
type Output struct {
	Source  *io.SectionReader // the file before it was signed
	Signed  File              // the signed file, or the signature
	Signers []Signer
	Roots   *x509.CertPool
	// Digested, unless it is nil, is told the SHA-256 of Signed by those who
	// hash all of it anyway ([Format.Digests]), once it is verified.
	Digested func(sha256 []byte)
	// ContentKey is that of an encrypted file; nil for others.
	ContentKey []byte
}

// File is a file such as an *io.SectionReader. It may still be written: ReadAt
// then waits for what is not there yet, Size for the end.
type File interface {
	io.ReaderAt
	Size() int64
}

// signed is the output when it is whole.
func (o Output) signed() *io.SectionReader { return io.NewSectionReader(o.Signed, 0, o.Signed.Size()) }

// Program is one that verifies outputs, independent of this one.
type Program struct {
	Name string
	// Unless names a parameter: when that is given, and not as false, the
	// program cannot check.
	Unless  string
	Version []string // arguments that have it say its version
	// Config gives the text of a configuration that it needs; nil if it needs none.
	Config func(Files) string
	// Check gives the arguments that have it verify the files of Files.
	Check func(Files) []string
}

// Files are an output and what belongs to it, as files (PEM).
type Files struct{ Source, Signed, Root, PublicKey, Config string }

// ByName finds a format.
func ByName(name string) (*Format, error) {
	if i := slices.IndexFunc(Formats, func(f *Format) bool { return f.Name == name }); i >= 0 {
		return Formats[i], nil
	}
	return nil, fmt.Errorf("there is no format %q; there are %s", name, strings.Join(Names(), ", "))
}

// Names lists the formats' names.
func Names() []string {
	var names []string
	for _, f := range Formats {
		names = append(names, f.Name)
	}
	return names
}

// signingTime is the parameter of formats whose signatures carry a time.
var signingTime = Parameter{Name: "at", About: "the signing time, as 2026-11-21T12:00:00Z (default: now)"}

var pss = Parameter{Name: "pss", About: "true has an RSA key sign with PSS"}

// Of is what parameters take from the release and the clock if nothing else is
// said.
type Of struct {
	Version string
	Counter uint32
	Now     time.Time
}

// Complete fills in defaults, and the signing time where there is none, and
// refuses parameters that the format does not have.
func (f *Format) Complete(given map[string]string, of Of) (map[string]string, error) {
	defaults := strings.NewReplacer("{version}", of.Version, "{counter}", strconv.FormatUint(uint64(of.Counter), 10))
	all := map[string]string{}
	for _, p := range f.Parameters {
		switch value, ok := given[p.Name]; {
		case ok:
			all[p.Name] = value
		case p.Name == signingTime.Name:
			all[p.Name] = of.Now.UTC().Truncate(time.Second).Format(time.RFC3339)
		case p.Default != "":
			all[p.Name] = defaults.Replace(p.Default)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.ContainsFunc(f.Parameters, func(p Parameter) bool { return p.Name == name }) {
			return nil, fmt.Errorf("the format %s has no parameter %q; it has %s", f.Name, name, f.parameterNames())
		}
	}
	return all, nil
}

func (f *Format) parameterNames() string {
	var names []string
	for _, p := range f.Parameters {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

// Sign makes a signing of complete parameters. What is to be signed does not
// depend on the content key: each signing of an encrypted file has a new one.
func (f *Format) Sign(parameters map[string]string, signers []Signer) (firmwaresign.Format, error) {
	contentKey, err := f.ContentKey(parameters)
	if err != nil {
		return nil, err
	}
	return f.SignWith(parameters, signers, contentKey)
}

// SignWith is Sign with a content key that the caller made by ContentKey.
func (f *Format) SignWith(parameters map[string]string, signers []Signer, contentKey []byte) (firmwaresign.Format, error) {
	if len(signers) == 0 || len(signers) > f.MaxKeys {
		return nil, fmt.Errorf("the format %s takes 1 to %d keys, not %d", f.Name, f.MaxKeys, len(signers))
	}
	v := &Values{of: parameters, ContentKey: contentKey}
	made, err := f.New(v, signers)
	if v.err != nil {
		return nil, v.err
	}
	return made, err
}

// Export gives what a device's build needs of a key.
func (f *Format) Export(parameters map[string]string, s Signer) ([]byte, error) {
	if f.Key == nil {
		der, err := x509.MarshalPKIXPublicKey(s.Public)
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
	}
	v := &Values{of: parameters}
	key, err := f.Key(v, s)
	if v.err != nil {
		return nil, v.err
	}
	return key, err
}

// certificateOf is the Key of formats whose devices know certificates (PEM).
func certificateOf(_ *Values, s Signer) ([]byte, error) {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate.Raw}), nil
}

// Check verifies an output that was made with complete parameters.
func (f *Format) Check(parameters map[string]string, out Output) error {
	v := &Values{of: parameters, ContentKey: out.ContentKey}
	out.Roots = out.issuers()
	err := f.Verify(v, out)
	if v.err != nil {
		return v.err
	}
	return err
}

// Checkers are the programs that can check what was made with complete
// parameters.
func (f *Format) Checkers(parameters map[string]string) []Program {
	return slices.DeleteFunc(slices.Clone(f.Programs), func(p Program) bool {
		value := parameters[p.Unless]
		return p.Unless != "" && value != "" && value != "false"
	})
}

// issuers are the roots, and the CAs of the signers' chains that lead to one:
// the verifiers build no chains of certificates that come with a signature.
func (o Output) issuers() *x509.CertPool {
	all, between := o.Roots.Clone(), x509.NewCertPool()
	for _, s := range o.Signers {
		for _, c := range s.Chain {
			between.AddCert(c)
		}
	}
	for _, s := range o.Signers {
		for _, c := range s.Chain {
			_, err := c.Verify(x509.VerifyOptions{Roots: o.Roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			if err == nil && c.IsCA {
				all.AddCert(c)
			}
		}
	}
	return all
}

// Values are parameters as they are read. The first that cannot be read is
// kept as the error of the whole.
type Values struct {
	of         map[string]string
	ContentKey []byte // of a file that is encrypted as it is signed; nil for others
	err        error
}

func (v *Values) bad(name, want string) {
	if v.err == nil {
		v.err = fmt.Errorf("the parameter %s is %q: want %s", name, v.of[name], want)
	}
}

// Has reports whether a parameter is there.
func (v *Values) Has(name string) bool { return v.of[name] != "" }

// Text is a parameter as it came.
func (v *Values) Text(name string) string { return v.of[name] }

// Uint is a number in decimal or, with 0x, hexadecimal; 0 if it is absent.
func (v *Values) Uint(name string, bits int) uint64 {
	if !v.Has(name) {
		return 0
	}
	n, err := strconv.ParseUint(v.of[name], 0, bits)
	if err != nil {
		v.bad(name, fmt.Sprintf("a number that fits into %d bits", bits))
	}
	return n
}

// Bool is true or false; false if it is absent.
func (v *Values) Bool(name string) bool {
	if !v.Has(name) {
		return false
	}
	b, err := strconv.ParseBool(v.of[name])
	if err != nil {
		v.bad(name, "true or false")
	}
	return b
}

// Time is a time (RFC 3339).
func (v *Values) Time(name string) time.Time {
	t, err := time.Parse(time.RFC3339, v.of[name])
	if err != nil {
		v.bad(name, "a time as 2026-11-21T12:00:00Z")
	}
	return t
}

func publicKeys(signers []Signer) []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, s := range signers {
		keys = append(keys, s.Public)
	}
	return keys
}
