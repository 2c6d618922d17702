package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

func (a *app) manifestCommand() *cobra.Command {
	return group("manifest", "Signed lists of what a site built",
		`A manifest is the signed list of manufacturing records that a site hands in for an order: JSON Lines or CSV, signed as it
is by as many site operators as the order wants.`,
		a.manifestConvert(), a.manifestSign(), a.manifestUpload(), a.manifestSignMore(), a.manifestAsk(), a.manifestList(), a.manifestShow())
}

func (a *app) manifestSign() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "sign FILE", Short: "Sign a manifest file, offline",
		Long: `sign makes a detached CMS signature over the file, byte for byte, with your operator's certificate and key. The key may be
a file or a key URI (pkcs11:…). It needs no server.`,
		Example: "  touchmark manifest sign units.jsonl --cert anna.crt --key anna.key\n  touchmark --dir anna manifest sign units.jsonl -o units.anna.p7s",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVarP(&out, "output", "o", "", "where the signature goes (default FILE.p7s)")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		sig, err := a.sign(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if out == "" {
			out = args[0] + ".p7s"
		}
		if err := os.WriteFile(out, sig, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(a.err, "Signed: %s\n", out)
		return nil
	}
	return c
}

// sign signs a file with the profile's certificate and key.
func (a *app) sign(ctx context.Context, file string) ([]byte, error) {
	p, err := a.resolve()
	var usage *usageError
	if err != nil && !(errors.As(err, &usage) && p.Certificate != "") { // signing needs no server
		return nil, err
	}
	if p.Certificate == "" || p.Key == "" {
		return nil, usagef("whose signature? Give --cert and --key, or --dir DIR")
	}
	text, err := os.ReadFile(p.Certificate)
	if err != nil {
		return nil, fmt.Errorf("your certificate (--cert): %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("your certificate (--cert): %s holds no certificate in PEM", p.Certificate)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("your certificate (--cert): %s: %w", p.Certificate, err)
	}
	key, err := keys.Ring{Dir: "."}.Open(ctx, keyURI(p.Key))
	if err != nil {
		return nil, fmt.Errorf("your key (--key): %w", err)
	}
	return manifest.SignFile(file, cert, key, time.Now())
}

// keyURI takes what has no scheme for a path.
func keyURI(s string) string {
	scheme, _, found := strings.Cut(s, ":")
	if found && len(scheme) > 1 && !strings.ContainsAny(scheme, "/.\\") {
		return s
	}
	return "file:" + s
}

func (a *app) manifestUpload() *cobra.Command {
	var signatures []string
	var sign, noWait bool
	c := &cobra.Command{
		Use: "upload ORDER FILE", Short: "Hand a manifest in and wait until its records are loaded", Args: cobra.ExactArgs(2),
		Long: `upload hands a manifest in for an order, with the signatures that are there: those of --signature, or FILE.p7s, or yours
made on the spot with --sign. The file is taken in whole or not at all; if a line is broken, every broken line is listed.
The same file again changes nothing, so repeat it if the line breaks.`,
		Example: `  touchmark --dir anna manifest upload PO-4711 units.jsonl --sign
  touchmark --dir anna manifest upload PO-4711 units.csv --signature anna.p7s --signature bert.p7s`,
		ValidArgsFunction: a.completeFirst("/orders"),
	}
	f := c.Flags()
	f.StringArrayVar(&signatures, "signature", nil, "detached CMS signature, a `file` (DER or PEM); may be repeated (default FILE.p7s)")
	f.BoolVar(&sign, "sign", false, "sign the file with your certificate and key")
	f.BoolVar(&noWait, "no-wait", false, "do not wait until the records are loaded")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		sigs, err := a.signatures(ctx, args[1], signatures, sign)
		if err != nil {
			return nil, err
		}
		raw, err := a.upload(ctx, cl, args[0], args[1], sigs)
		if err != nil || noWait {
			return raw, err
		}
		return a.awaitLoaded(ctx, cl, raw)
	}, showManifest)
}

// signatures reads what --signature names, or the one beside the file.
func (a *app) signatures(ctx context.Context, file string, named []string, sign bool) (sigs [][]byte, err error) {
	if _, err := os.Stat(file + ".p7s"); err == nil && len(named) == 0 && !sign {
		named = []string{file + ".p7s"}
	}
	for _, name := range named {
		sig, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("signature: %w", err)
		}
		sigs = append(sigs, sig)
	}
	if sign {
		sig, err := a.sign(ctx, file)
		if err != nil {
			return nil, err
		}
		sigs = append(sigs, sig)
	}
	if len(sigs) == 0 {
		return nil, usagef("there is no %s.p7s: sign the file with `touchmark manifest sign`, or add --sign or --signature FILE", file)
	}
	return sigs, nil
}

func (a *app) upload(ctx context.Context, cl *client, order, file string, sigs [][]byte) (raw []byte, err error) {
	kind, err := manifestType(file)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("the manifest: %w", err)
	}
	bar := a.bar("Handing in " + filepath.Base(file) + " (bytes)")
	defer bar.done()
	boundary := multipart.NewWriter(nil).Boundary()
	form := &body{kind: "multipart/form-data; boundary=" + boundary, open: func() (io.ReadCloser, error) {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		return formBody(&countedReader{ReadCloser: f, bar: bar, total: info.Size()}, boundary, filepath.Base(file), kind, sigs), nil
	}}
	err = cl.api(ctx, http.MethodPost, "/orders/"+segment(order)+"/manifests", form, &raw)
	return raw, err
}

func manifestType(file string) (string, error) {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".jsonl", ".ndjson":
		return "application/jsonl", nil
	case ".csv":
		return "text/csv", nil
	}
	return "", usagef("%s is neither .jsonl nor .csv: the file's name says its format", file)
}

// formBody streams the upload: signatures first, so that they are there when
// the file has been read.
func formBody(file io.ReadCloser, boundary, name, kind string, sigs [][]byte) io.ReadCloser {
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	_ = form.SetBoundary(boundary) // its own boundary is a good one
	go func() {
		defer file.Close()
		w.CloseWithError(writeForm(form, file, name, kind, sigs))
	}()
	return r
}

func writeForm(form *multipart.Writer, file io.Reader, name, kind string, sigs [][]byte) error {
	for _, sig := range sigs {
		part, err := form.CreatePart(partHeader("signature", "signature.p7s", "application/pkcs7-signature"))
		if err != nil {
			return err
		}
		if _, err := part.Write(sig); err != nil {
			return err
		}
	}
	part, err := form.CreatePart(partHeader("manifest", name, kind))
	if err != nil {
		return err
	}
	if _, err := io.Copy(part, file); err != nil {
		return err
	}
	return form.Close()
}

func partHeader(field, file, kind string) textproto.MIMEHeader {
	return textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition(field, file)},
		"Content-Type":        {kind},
	}
}

// awaitLoaded follows the loading of a manifest's records, which the server
// does after it has accepted the file.
func (a *app) awaitLoaded(ctx context.Context, cl *client, raw []byte) ([]byte, error) {
	bar := a.bar("Loading records")
	defer bar.done()
	for {
		var m vetting.Manifest
		if err := decode(raw, &m); err != nil || m.State != vetting.ManifestAccepted {
			return raw, err
		}
		bar.set(m.Loaded, m.Records)
		if err := cl.pause(ctx, 200*time.Millisecond); err != nil {
			return raw, err
		}
		raw = nil
		if err := cl.api(ctx, http.MethodGet, fmt.Sprintf("/manifests/%d", m.ID), nil, &raw); err != nil {
			return nil, err
		}
	}
}

func (a *app) manifestSignMore() *cobra.Command {
	c := &cobra.Command{
		Use: "sign-more ID SIGNATURE", Short: "Add a signature to a manifest that waits for more", Args: cobra.ExactArgs(2),
		Long:    "sign-more adds a detached CMS signature over the very file that was handed in. With the last one that the order wants, the manifest is accepted and its records are loaded.",
		Example: "  touchmark --dir bert manifest sign units.jsonl -o units.bert.p7s\n  touchmark --dir bert manifest sign-more 4711 units.bert.p7s",
	}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		sig, err := os.ReadFile(args[1])
		if err != nil {
			return nil, err
		}
		if err := cl.call(ctx, http.MethodPost, api.Base+"/manifests/"+segment(args[0])+"/signatures", nil, bytesBody("application/pkcs7-signature", sig), &raw); err != nil {
			return nil, err
		}
		return a.awaitLoaded(ctx, cl, raw)
	}, showManifest)
}

func (a *app) manifestAsk() *cobra.Command {
	note := ""
	c := &cobra.Command{Use: "ask ID", Short: "Ask again that others approve a manifest", Args: cobra.ExactArgs(1),
		Long: `Where an order or its product wants approvals of manifests, others are asked when the last signature is there, and nothing is loaded before they agreed.
ask asks them again, after a week without enough approvals, or after somebody withdrew it.`,
		Example: "  touchmark --dir anna manifest ask 4711 --note 'nobody was there last week'"}
	c.Flags().StringVar(&note, "note", "", "why, for those who approve it (required)")
	_ = c.MarkFlagRequired("note")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		err = cl.api(ctx, http.MethodPost, "/manifests/"+segment(args[0])+"/approval", api.ReasonInput{Note: note}, &raw)
		return raw, err
	}, showManifest)
}

func (a *app) manifestList() *cobra.Command {
	q := url.Values{}
	c := &cobra.Command{Use: "list", Short: "List manifests"}
	filter(c, q, "site", "only manifests of this site")
	filter(c, q, "order", "only manifests for this order")
	a.completeFlags(c)
	return listCommand(a, c, "/manifests", func() url.Values { return q }, table[vetting.Manifest]{
		columns: "ID\tORDER\tSITE\tSTATE\tRECORDS\tLOADED\tDISPUTED\tSIGNERS\tRECEIVED", none: "There are no such manifests.",
		row: func(m *vetting.Manifest) []any {
			return []any{m.ID, m.Order, m.Site, m.State, m.Records, m.Loaded, m.Disputed, join(m.Signers), m.Received}
		},
	})
}

func (a *app) manifestShow() *cobra.Command {
	c := &cobra.Command{Use: "show ID", Short: "Show a manifest and how far its records are loaded", Args: cobra.ExactArgs(1)}
	return objectCommand(a, c, getter("/manifests/"), showManifest)
}

func showManifest(w io.Writer, m *vetting.Manifest) {
	field(w, "manifest", m.ID)
	field(w, "order", m.Order)
	field(w, "site", m.Site)
	field(w, "state", m.State)
	fmt.Fprintf(w, "records\t%s, loaded %s: %s new, %s known already, %s disputed\n",
		count(m.Records), count(m.Loaded), count(m.Fresh), count(m.Repeated), count(m.Disputed))
	fmt.Fprintf(w, "signatures\t%d of %d: %s\n", len(m.Signers), m.Wanted, text(join(m.Signers)))
	if m.State == vetting.ManifestUnsigned {
		fmt.Fprintf(w, "next\t%d more must sign the same file: touchmark manifest sign-more %d SIGNATURE\n", m.Wanted-len(m.Signers), m.ID)
	}
	if m.State == vetting.ManifestUnapproved {
		fmt.Fprintf(w, "approvals\t%s by others wanted\n", counted(int64(m.Approvals), "approval", "approvals"))
		if m.Proposal != 0 {
			fmt.Fprintf(w, "next\tthey sign it: touchmark approval approve %d\n", m.Proposal)
		} else {
			fmt.Fprintf(w, "next\task them: touchmark manifest ask %d\n", m.ID)
		}
	}
	field(w, "file", fmt.Sprintf("%s, %s bytes, SHA-256 %s", m.Format, count(m.Size), m.SHA256))
	field(w, "received", m.Received)
}
