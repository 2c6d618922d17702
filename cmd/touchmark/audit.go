package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) auditCommand() *cobra.Command {
	return group("audit", "The log of everything that was issued and changed",
		`The audit log is a Merkle tree whose head is signed now and then (a checkpoint). Keep checkpoints where the server's
people cannot change them: against such a one, verify finds any later rewriting.`,
		a.auditCheckpoint(), a.auditVerify(), a.auditProof(), a.auditCheck(), a.auditShow(), a.auditAcceptLoss())
}

func (a *app) auditCheckpoint() *cobra.Command {
	var verifier, out string
	c := &cobra.Command{
		Use: "checkpoint", Short: "Fetch the newest signed checkpoint, check and print it", Args: cobra.NoArgs,
		Long:    "checkpoint fetches the newest checkpoint and checks its signature with --verifier, or with the log's key as the server tells it, which proves less.",
		Example: "  touchmark audit checkpoint --verifier log.verifier -o checkpoint-$(date +%F)",
	}
	c.Flags().StringVar(&verifier, "verifier", "", "the log's public key as you keep it, a `file`")
	c.Flags().StringVarP(&out, "output", "o", "", "write the checkpoint to this `file`")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		v, err := a.verifier(cmd.Context(), cl, verifier)
		if err != nil {
			return err
		}
		var signed []byte
		if err := cl.call(cmd.Context(), http.MethodGet, "/audit/checkpoint", nil, nil, &signed); err != nil {
			return err
		}
		if _, err := audit.OpenCheckpoint(signed, v); err != nil {
			return err
		}
		if out != "" {
			return os.WriteFile(out, signed, 0o644)
		}
		_, err = a.out.Write(signed)
		return err
	}
	return c
}

// verifier is the log's public key: from a file, or else as the server
// tells it.
func (a *app) verifier(ctx context.Context, cl *client, file string) (note.Verifier, error) {
	if file != "" {
		return readVerifier(file)
	}
	if dir := a.dataDir(); dir != "" {
		if v, err := readVerifier(filepath.Join(dir, "log", "verifier")); !errors.Is(err, fs.ErrNotExist) {
			return v, err
		}
	}
	var text []byte
	if err := cl.call(ctx, http.MethodGet, "/audit/verifier", nil, nil, &text); err != nil {
		return nil, err
	}
	return audit.ParseVerifier(string(text))
}

func readVerifier(file string) (note.Verifier, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the log's public key: %w", err)
	}
	v, err := audit.ParseVerifier(string(text))
	if err != nil {
		return nil, fmt.Errorf("the log's public key, %s: %w", file, err)
	}
	return v, nil
}

// logFlags name a log in a database.
type logFlags struct {
	config, database, verifier string
	checkpoints                []string
}

func (l *logFlags) add(c *cobra.Command) {
	configFlag(c, &l.config)
	c.Flags().StringVar(&l.database, "database", "", "database, instead of the configuration's: sqlite:PATH or postgres://USER@HOST/NAME")
}

// open opens the database to read it. The configuration is nil if the
// command line alone names the database.
func (l *logFlags) open(ctx context.Context, a *app) (*store.Reader, *server.Config, error) {
	var config *server.Config
	dsn := l.database
	if dsn == "" {
		var err error
		if config, err = a.config(l.config); err != nil {
			return nil, nil, err
		}
		dsn = config.DSN()
	}
	db, err := store.OpenReader(ctx, dsn)
	return db, config, err
}

func (a *app) auditVerify() *cobra.Command {
	var l logFlags
	c := &cobra.Command{
		Use: "verify", Short: "Prove the whole log, and every object against it", Args: cobra.NoArgs,
		Long: `verify reads the database itself, which may be in use, and needs no server. It finds any leaf that was changed, removed or
put elsewhere, any checkpoint that the log does not continue, and any order, record, device, certificate, registration,
evidence, operator, revocation list or offline file that was changed, added or removed past the log, and what status responders
are told of certificates that are not so. It checks the checkpoints that the database and the
data directory hold, and those that you kept (--checkpoint).

Exit status 0: nothing was found; 1: something was, and it is printed.`,
		Example: `  touchmark audit verify --dir /var/lib/touchmark
  touchmark audit verify --database 'postgres://auditor@db.example.com/touchmark' --verifier log.verifier --checkpoint checkpoint-2026-11-01`,
	}
	l.add(c)
	c.Flags().StringVar(&l.verifier, "verifier", "", "the log's public key as you keep it, a `file` (default: log/verifier in the data directory)")
	c.Flags().StringArrayVar(&l.checkpoints, "checkpoint", nil, "a checkpoint that you kept, a `file`; may be repeated")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := a.verify(cmd.Context(), &l)
		if err != nil {
			return err
		}
		raw, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err := a.print(raw, func(w io.Writer) { showReport(w, r) }); err != nil {
			return err
		}
		if !r.OK() {
			return errFound
		}
		return nil
	}
	return a.jsonFlag(c)
}

func (a *app) verify(ctx context.Context, l *logFlags) (_ *audit.Report, err error) {
	db, config, err := l.open(ctx, a)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	o, err := l.options(ctx, db, config)
	if err != nil {
		return nil, err
	}
	bar := a.bar("Verifying")
	defer bar.done()
	o.Progress = func(stage audit.Stage, done, total int64) {
		bar.what = "Verifying " + string(stage)
		bar.set(done, total)
	}
	var report *audit.Report
	err = db.Snapshot(ctx, func(src audit.Source) error {
		report, err = audit.Verify(ctx, src, o)
		return err
	})
	return report, err
}

// options gathers the checkpoints before the snapshot is taken, so that none
// is ahead of it for innocent reasons.
func (l *logFlags) options(ctx context.Context, db *store.Reader, config *server.Config) (o audit.Options, err error) {
	for _, file := range l.checkpoints {
		signed, err := readCheckpoint(file)
		if err != nil {
			return o, fmt.Errorf("checkpoint: %w", err)
		}
		o.Checkpoints = append(o.Checkpoints, signed)
	}
	verifier := l.verifier
	if config != nil {
		if verifier == "" {
			verifier = config.VerifierFile()
		}
		signed, err := readCheckpoint(filepath.Join(config.Dir, "log", "checkpoint"))
		switch {
		case err == nil:
			o.Checkpoints = append(o.Checkpoints, signed)
		case !errors.Is(err, fs.ErrNotExist):
			return o, fmt.Errorf("checkpoint: %w", err)
		}
	}
	if verifier == "" {
		return o, usagef("checkpoints need the log's public key: give --verifier FILE")
	}
	if o.Verifier, err = readVerifier(verifier); err != nil {
		return o, err
	}
	signed, err := db.LastCheckpoint(ctx)
	known := func(c []byte) bool { return bytes.Equal(c, signed) }
	if signed != nil && !slices.ContainsFunc(o.Checkpoints, known) {
		o.Checkpoints = append(o.Checkpoints, signed)
	}
	return o, err
}

// readCheckpoint reads a signed note, or the server's checkpoint file, which
// holds one.
func readCheckpoint(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var kept struct{ Checkpoint string }
	if json.Unmarshal(text, &kept) == nil && kept.Checkpoint != "" {
		return []byte(kept.Checkpoint), nil
	}
	return text, nil
}

func showReport(w io.Writer, r *audit.Report) {
	fmt.Fprintf(w, "leaves\t%s, from %s to %s\n", count(r.Size), text(r.First), text(r.Last))
	fmt.Fprintf(w, "root\t%s\n", r.Root)
	var objects int64
	for _, n := range r.Objects {
		objects += n
	}
	fmt.Fprintf(w, "objects\t%s agree with their leaves or are listed below\n", count(objects))
	for _, c := range r.Checkpoints {
		fmt.Fprintf(w, "checkpoint\t%s of %s: the log continues it\n", counted(c.Size, "leaf", "leaves"), c.Origin)
	}
	if r.OK() {
		fmt.Fprintln(w, "result\tnothing is wrong")
		return
	}
	fmt.Fprintf(w, "result\t%s\n", counted(r.Total, "finding", "findings"))
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s\t%s\n", f.Problem, text(f.Text))
	}
	if more := r.Total - int64(len(r.Findings)); more > 0 {
		fmt.Fprintf(w, "\tand %s more\n", count(more))
	}
}

func (a *app) auditProof() *cobra.Command {
	var verifier, out string
	c := &cobra.Command{
		Use: "proof SERIAL|FILE", Short: "Prove that a certificate's issuance is in the log", Args: cobra.ExactArgs(1),
		Long: `proof fetches the proof for a certificate, given by its serial number or as a PEM file, checks it, and prints or keeps it.
Whoever has the proof, the certificate and the log's public key can check it offline with ` + "`touchmark audit check`.",
		Example: "  touchmark audit proof device.crt -o device.proof\n  touchmark audit check device.proof device.crt --verifier log.verifier",
	}
	c.Flags().StringVar(&verifier, "verifier", "", "the log's public key as you keep it, a `file`")
	c.Flags().StringVarP(&out, "output", "o", "", "write the proof to this `file`")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		raw, leaf, err := a.prove(cmd.Context(), cl, args[0], verifier)
		if err != nil {
			return err
		}
		if out != "" {
			if err := os.WriteFile(out, raw, 0o644); err != nil {
				return err
			}
		}
		return a.print(raw, func(w io.Writer) { showProven(w, leaf) })
	}
	return a.jsonFlag(c)
}

func (a *app) prove(ctx context.Context, cl *client, arg, verifier string) (raw []byte, leaf audit.Leaf, err error) {
	serial, der, err := certificateSerial(arg)
	if err != nil {
		return nil, leaf, err
	}
	if der == nil {
		var cert api.IssuedCertificate
		if err := cl.getJSON(ctx, "/certificates/"+segment(serial), &cert); err != nil {
			return nil, leaf, err
		}
		parsed, err := parsePEM([]byte(cert.PEM))
		if err != nil {
			return nil, leaf, fmt.Errorf("the server's answer about certificate %s: %w", serial, err)
		}
		der = parsed.Raw
	}
	v, err := a.verifier(ctx, cl, verifier)
	if err != nil {
		return nil, leaf, err
	}
	if err := cl.getJSON(ctx, "/certificates/"+segment(serial)+"/proof", &raw); err != nil {
		return nil, leaf, err
	}
	leaf, err = checkProof(raw, v, der)
	return raw, leaf, err
}

func checkProof(raw []byte, v note.Verifier, der []byte) (audit.Leaf, error) {
	p, err := audit.ParseProof(raw)
	if err != nil {
		return audit.Leaf{}, err
	}
	return p.Verify(v, der)
}

func (a *app) auditCheck() *cobra.Command {
	verifier := ""
	c := &cobra.Command{
		Use: "check PROOF CERTIFICATE", Short: "Check a proof offline", Args: cobra.ExactArgs(2),
		Example: "  touchmark audit check device.proof device.crt --verifier log.verifier",
	}
	c.Flags().StringVar(&verifier, "verifier", "", "the log's public key, a `file` (required)")
	_ = c.MarkFlagRequired("verifier")
	c.RunE = func(_ *cobra.Command, args []string) error {
		raw, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		text, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		cert, err := parsePEM(text)
		if err != nil {
			return fmt.Errorf("%s: %w", args[1], err)
		}
		v, err := readVerifier(verifier)
		if err != nil {
			return err
		}
		leaf, err := checkProof(raw, v, cert.Raw)
		if err != nil {
			return err
		}
		return a.print(raw, func(w io.Writer) { showProven(w, leaf) })
	}
	return c
}

func showProven(w io.Writer, leaf audit.Leaf) {
	fmt.Fprintln(w, "proved\tthe log shows the issuance of this certificate")
	showLeaf(w, leaf)
}

func showLeaf(w io.Writer, l audit.Leaf) {
	field(w, "when", l.Time)
	field(w, "act", l.Act)
	field(w, "by", l.By)
	field(w, "note", l.Note)
	var objects []string
	for _, o := range l.Objects {
		objects = append(objects, fmt.Sprintf("%s %d", o.Kind, o.ID))
	}
	field(w, "objects", strings.Join(objects, ", "))
}

func (a *app) auditShow() *cobra.Command {
	var l logFlags
	var from, to int64
	c := &cobra.Command{
		Use: "show", Short: "Print leaves of the log", Args: cobra.NoArgs,
		Long:    "show prints leaves from the database itself, the last 20 unless --from or --to say otherwise.",
		Example: "  touchmark audit show --dir /var/lib/touchmark --from 0 --to 100",
	}
	l.add(c)
	c.Flags().Int64Var(&from, "from", -1, "first leaf")
	c.Flags().Int64Var(&to, "to", -1, "leaf to stop before")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		db, _, err := l.open(cmd.Context(), a)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		head, err := db.Head(cmd.Context())
		if err != nil {
			return err
		}
		if to < 0 || to > head.Size() {
			to = head.Size()
		}
		if from < 0 {
			from = max(0, to-20)
		}
		return a.showLeaves(cmd.Context(), db, from, to)
	}
	return a.jsonFlag(c)
}

// showLeaves prints leaves: with --json one JSON object a line, as hashed.
func (a *app) showLeaves(ctx context.Context, db *store.Reader, from, to int64) error {
	return db.Leaves(ctx, from, to, func(index int64, body []byte) error {
		if a.json {
			_, err := fmt.Fprintf(a.out, "%s\n", body)
			return err
		}
		leaf, err := audit.ParseLeaf(body)
		if err != nil {
			return fmt.Errorf("leaf %d: %w; `touchmark audit verify` tells more", index, err)
		}
		var objects []string
		for _, o := range leaf.Objects {
			objects = append(objects, fmt.Sprintf("%s %d", o.Kind, o.ID))
		}
		_, err = fmt.Fprintf(a.out, "%d  %s  %s  by %s  [%s]  %s\n", index, text(leaf.Time), text(leaf.Act), text(leaf.By), strings.Join(objects, ", "), text(leaf.Note))
		return err
	})
}
