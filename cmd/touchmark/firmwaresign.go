package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
)

// errPending ends a command whose signatures wait for approvals, or for an
// offline key: the ticket was printed already.
var errPending = errors.New("the release waits")

// signing is the signing of one file.
type signing struct {
	app     *app
	client  *client
	file    *io.SectionReader
	path    string // of the file
	out     string // of the signed file
	wait    bool
	stamp   bool // with a time stamp
	format  *catalogue.Format
	release *release.Release
	part    *release.Artefact // what is asked for, or was
	signers []catalogue.Signer
	offline []*release.Key // those of the keys that sign elsewhere
	source  <-chan hashed

	contentKey []byte // of an image that is encrypted here
}

func (a *app) firmwareSign() *cobra.Command {
	var in struct {
		format, stage, release, name, out string
		keys, set                         []string
		wait, stamp                       bool
	}
	c := &cobra.Command{Use: "sign FILE", Short: "Sign a file for a release", Args: cobra.ExactArgs(1),
		Long: `sign prepares the file here, has the server sign digests of it, finishes and verifies it. For the stage test that is done at once, on a draft.
For production the file becomes a part of the draft: a ticket is printed, and the exit status is 75 until the release was approved. Then the
same command again, or firmware collect, writes the signed file. With --wait the command waits for that.

The server stamps the time (RFC 3161) on each signature: inside it for cms and authenticode, or over the signed file, in FILE.tst beside it.

With --set encrypt=… the file is encrypted, too, and what is written is the part that all devices share, FILE.encrypted. What is secret of it goes
to the server, sealed; firmware wrap makes from it what each device gets of its own.

` + formatHelp(),
		Example: "  touchmark firmware sign app.bin --format mcuboot --stage test --release thermostat@1.4.0 --set slot-size=0x60000\n" +
			"  touchmark firmware sign update.raucb --format rauc --stage production --release gateway@2.0.1 --wait"}
	f := c.Flags()
	f.StringVar(&in.format, "format", "", strings.Join(catalogue.Names(), ", ")+" (required)")
	f.StringVar(&in.stage, "stage", "", "test or production (required)")
	f.StringVar(&in.release, "release", "", "the release, as PRODUCT@VERSION (required)")
	f.StringArrayVar(&in.keys, "key", nil, "a key that signs; may be repeated (default: the only one of the product and stage)")
	f.StringArrayVar(&in.set, "set", nil, "a parameter of the format, as NAME=VALUE; may be repeated")
	f.StringVar(&in.name, "name", "", "the artefact's name in the release (default: the file's)")
	f.StringVar(&in.out, "out", "", "where the signed `file` goes (default: the file's name with a suffix)")
	f.BoolVar(&in.wait, "wait", false, "wait for the approvals")
	f.BoolVar(&in.stamp, "timestamp", true, "have the server's authority stamp the time, if it has one")
	for _, name := range []string{"format", "stage", "release"} {
		_ = c.MarkFlagRequired(name)
	}
	oneOf(c, "format", catalogue.Names()...)
	oneOf(c, "stage", release.Stages...)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		s := &signing{app: a, client: cl, path: args[0], out: in.out, wait: in.wait, stamp: in.stamp}
		part := &release.Artefact{Stage: release.Stage(in.stage), Name: in.name, Format: in.format, Keys: in.keys}
		if part.Name == "" {
			part.Name = filepath.Base(args[0])
		}
		given, err := parameters(in.set)
		if err != nil {
			return nil, err
		}
		part.Parameters = given
		return s.sign(ctx, in.release, part)
	}, showArtefact)
}

func (a *app) firmwareCollect() *cobra.Command {
	s := &signing{app: a}
	c := &cobra.Command{Use: "collect TICKET FILE", Short: "Write the signed file, once its release was approved", Args: cobra.ExactArgs(2),
		Long: `collect prepares the file again, with the parameters of the ticket, and refuses one that is not what was handed in. The exit status is 75
until the release was approved; with --wait the command waits for that.`,
		Example: "  touchmark firmware collect 4711 app.bin"}
	c.Flags().StringVar(&s.out, "out", "", "where the signed `file` goes (default: the file's name with a suffix)")
	c.Flags().BoolVar(&s.wait, "wait", false, "wait for the approvals")
	c.Flags().BoolVar(&s.stamp, "timestamp", true, "have the server's authority stamp the time, if it has one")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		s.client, s.path = cl, args[1]
		if s.release, s.part, err = artefactByTicket(ctx, cl, args[0]); err != nil {
			return nil, err
		}
		return s.run(ctx)
	}, showArtefact)
}

// formatHelp lists formats and their parameters.
func formatHelp() string {
	var b strings.Builder
	b.WriteString("Formats, and what --set tells them:\n")
	for _, f := range catalogue.Formats {
		fmt.Fprintf(&b, "  %s: %s\n", f.Name, f.About)
		for _, p := range f.Parameters {
			fmt.Fprintf(&b, "      %-18s %s\n", p.Name, p.About)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func parameters(set []string) (map[string]string, error) {
	given := map[string]string{}
	for _, text := range set {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usagef("--set %s: write it as NAME=VALUE", text)
		}
		given[name] = value
	}
	return given, nil
}

// sign hands a file in, or goes on with what was handed in before.
func (s *signing) sign(ctx context.Context, of string, part *release.Artefact) (raw []byte, err error) {
	format, err := catalogue.ByName(part.Format)
	if err != nil {
		return nil, &usageError{err}
	}
	if s.release, _, err = releaseNamed(ctx, s.client, of); err != nil {
		return nil, err
	}
	if s.part, err = s.again(part); err != nil {
		return nil, err
	}
	if s.part == nil {
		s.part = part
		if len(part.Keys) == 0 {
			if part.Keys, err = s.onlyKey(ctx, part.Stage); err != nil {
				return nil, err
			}
		}
		if part.Parameters, err = format.Complete(part.Parameters, catalogue.Of{Version: s.release.Version, Counter: s.release.Counter, Now: time.Now()}); err != nil {
			return nil, &usageError{err}
		}
	}
	return s.run(ctx)
}

// again is what a release that is no draft has of that name; nil if it is to
// be handed in.
func (s *signing) again(part *release.Artefact) (*release.Artefact, error) {
	if part.Stage == release.Test || s.release.State == release.Draft {
		return nil, nil
	}
	have := s.release.Artefact(part.Name)
	if have == nil {
		return nil, fmt.Errorf("release %s is %s, and has no artefact %s", s.release.Name(), s.release.State, part.Name)
	}
	all := maps.Clone(have.Parameters)
	maps.Copy(all, part.Parameters)
	if have.Format != part.Format || !maps.Equal(all, have.Parameters) {
		return nil, fmt.Errorf("release %s is %s with %s in the format %s and the parameters %v: others come too late", s.release.Name(), s.release.State, part.Name, have.Format, have.Parameters)
	}
	return have, nil
}

// onlyKey is the key of the product and stage, if there is but one.
func (s *signing) onlyKey(ctx context.Context, stage release.Stage) ([]string, error) {
	p, err := s.client.list(ctx, "/firmware-keys", url.Values{"product": {s.release.Product}}, 0)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, raw := range p.Items {
		k, err := answered[release.Key](raw)
		if err != nil {
			return nil, err
		}
		if k.Stage == stage && k.Revoked.IsZero() && !k.SignsStatements() {
			names = append(names, k.Name)
		}
	}
	switch len(names) {
	case 0:
		return nil, fmt.Errorf("product %s has no key for the stage %s: an administrator makes one with `touchmark firmware key create`", s.release.Product, stage)
	case 1:
		return names, nil
	}
	return nil, usagef("product %s has several keys for the stage %s: say with --key which signs (%s)", s.release.Product, stage, strings.Join(names, ", "))
}

// run prepares, asks for signatures, finishes and verifies. The signed file
// gets its name when it was verified.
func (s *signing) run(ctx context.Context) (raw []byte, err error) {
	if s.format, err = catalogue.ByName(s.part.Format); err != nil {
		return nil, err
	}
	if s.out == "" {
		s.out = s.path + s.suffix()
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if s.file, err = firmwaresign.File(f); err != nil {
		return nil, err
	}
	if s.signers, err = s.keys(ctx); err != nil {
		return nil, err
	}
	if s.contentKey, err = s.format.ContentKey(s.part.Parameters); err != nil {
		return nil, err
	}
	made, err := s.format.SignWith(s.part.Parameters, s.signers, s.contentKey)
	if err != nil {
		return nil, err
	}
	s.source = hashOf(s.file)
	signed, err := newGrowing(s.out)
	if err != nil {
		return nil, err
	}
	defer signed.remove()
	verified, err := s.check(signed)
	if err != nil {
		return nil, err
	}
	err = s.write(ctx, signed, made)
	signed.end(err)
	sum := <-verified
	if err != nil {
		return nil, err
	}
	raw, file, err := s.verify(ctx, signed.Name(), sum)
	if err != nil {
		return nil, err
	}
	if err := s.stampFile(ctx, file); err != nil {
		return nil, err
	}
	return raw, os.Rename(signed.Name(), s.out)
}

// write writes the signed file.
func (s *signing) write(ctx context.Context, out io.Writer, made firmwaresign.Format) error {
	ask := func(want []firmwaresign.ToSign) ([][]byte, error) { return s.ask(ctx, want) }
	if !s.stamp || s.format.Stamp == nil {
		return firmwaresign.Write(out, made, s.file, ask)
	}
	return s.writeStamped(ctx, out, made, ask)
}

// keys reads the keys that sign.
func (s *signing) keys(ctx context.Context) (list []catalogue.Signer, err error) {
	for _, name := range s.part.Keys {
		k := new(release.Key)
		if err := s.client.api(ctx, http.MethodGet, "/firmware-keys/"+segment(name), nil, k); err != nil {
			return nil, err
		}
		signer, err := firmwareSigner(k)
		if err != nil {
			return nil, err
		}
		if list = append(list, signer); k.Offline {
			s.offline = append(s.offline, k)
		}
	}
	return list, nil
}

// firmwareSigner is a key with its certificate and the CAs above that.
func firmwareSigner(k *release.Key) (signer catalogue.Signer, err error) {
	if k.SignsStatements() {
		return signer, fmt.Errorf("the key %s is of kind %s, and signs statements about releases: files are signed by keys of other kinds", k.Name, k.Kind)
	}
	if signer.Public, err = k.Public(); err != nil {
		return signer, err
	}
	if signer.Certificate, err = x509.ParseCertificate(k.Certificate); err != nil {
		return signer, fmt.Errorf("the certificate of the key %s: %w", k.Name, err)
	}
	for _, der := range k.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return signer, fmt.Errorf("the certificates above the key %s: %w", k.Name, err)
		}
		signer.Chain = append(signer.Chain, c)
	}
	return signer, nil
}

// ask gets the signatures, of this file and no other.
func (s *signing) ask(ctx context.Context, want []firmwaresign.ToSign) ([][]byte, error) {
	source := <-s.source
	if source.err != nil {
		return nil, source.err
	}
	asked := *s.part
	asked.Source, asked.ToSign = source.File, want
	if s.part.ID != 0 && !s.part.Same(&asked) {
		return nil, fmt.Errorf("%s is not what was handed in for release %s: its SHA-256 is %s, that of the artefact %s is %s", s.path, s.release.Name(), source.SHA256, s.part.Name, s.part.Source.SHA256)
	}
	if s.part.ID == 0 {
		if err := s.handIn(ctx, &asked); err != nil {
			return nil, err
		}
	}
	return s.signatures(ctx)
}

// maxMessage is the longest message, in bytes, that is handed in to be signed;
// in base64 it fits into a request.
const maxMessage = 40 << 10

func (s *signing) handIn(ctx context.Context, part *release.Artefact) error {
	for _, w := range part.ToSign {
		if len(w.Message) > maxMessage {
			return fmt.Errorf("%s: what is to be signed is a message of %d bytes, not a digest, and a server takes at most %d: use a key of another kind than Ed25519", s.path, len(w.Message), maxMessage)
		}
	}
	var raw json.RawMessage
	if err := s.client.api(ctx, http.MethodPost, releasePath(s.release.ID)+"/artefacts", api.ArtefactInput{
		Stage: part.Stage, Name: part.Name, Format: part.Format, Parameters: part.Parameters, Source: part.Source, Keys: part.Keys, ToSign: part.ToSign,
	}, &raw); err != nil {
		return err
	}
	made, err := answered[release.Artefact](raw)
	if err == nil {
		s.part = made
	}
	return err
}

// waitEvery is how often it is asked whether a release was approved.
const waitEvery = 5 * time.Second

// waits is what the artefact waits for, "" if it can be signed.
func (s *signing) waits() string {
	if s.part.Stage == release.Production && s.release.State == release.Draft {
		return "is not approved yet; when it is approved"
	}
	for _, k := range s.offline {
		if s.part.Lacks(k) {
			return fmt.Sprintf("waits for the offline key %s (touchmark firmware request export %s); when its signatures were imported", k.Name, s.release.Name())
		}
	}
	return ""
}

// signatures waits for the release's approval, and for offline keys, as far as
// it should, and gets the signatures.
func (s *signing) signatures(ctx context.Context) ([][]byte, error) {
	ticket := strconv.FormatInt(s.part.ID, 10)
	for what := s.waits(); what != ""; what = s.waits() {
		if !s.wait {
			return nil, s.pending(ticket, what)
		}
		if err := s.client.pause(ctx, waitEvery); err != nil {
			return nil, err
		}
		var err error
		if s.release, s.part, err = artefactByTicket(ctx, s.client, ticket); err != nil {
			return nil, err
		}
	}
	if len(s.part.Signatures) == 0 {
		s.part = new(release.Artefact)
		if err := s.client.api(ctx, http.MethodPost, "/artefacts/"+ticket+"/sign", nil, s.part); err != nil {
			return nil, err
		}
	}
	return s.part.Signatures, nil
}

// pending prints the ticket.
func (s *signing) pending(ticket, what string) error {
	fmt.Fprintf(s.app.err, "Ticket %s: %s is a part of release %s, which %s: touchmark firmware collect %s %s\n", ticket, s.part.Name, s.release.Name(), what, ticket, s.path)
	raw, err := json.Marshal(s.part)
	if err != nil {
		return err
	}
	return errors.Join(errPending, show(s.app, raw, showArtefact))
}

// hashed is what a file holds.
type hashed struct {
	release.File
	err error
}

// hashOf reads a file beside whoever else reads or writes it.
func hashOf(file catalogue.File) chan hashed {
	done := make(chan hashed, 1)
	go func() {
		h := sha256.New()
		n, err := io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(file, 0, math.MaxInt64), make([]byte, 256<<10))
		done <- hashed{release.File{Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err}
	}()
	return done
}
