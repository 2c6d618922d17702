package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) revocationFetch() *cobra.Command {
	f := fetcher{client: &http.Client{Timeout: 10 * time.Minute}}
	c := &cobra.Command{
		Use: "fetch URL [ISSUER]", Short: "Get an issuing CA's newest offline filter and delta from a status listener", Args: cobra.RangeArgs(1, 2),
		Long: `fetch writes ISSUER.filter, ISSUER.delta and ISSUER.crt, the CA's certificate, into a directory; ISSUER is device-ca if it is not named. In a
root roll-over ISSUER.crt also holds the certificates by which the roots signed each other, so that whoever knows one of them can use it.
It asks a status listener, over plain HTTP, and needs no access to the operators' API: what it gets is signed. Nothing is replaced by what cannot be verified
by --ca, or is older. What has not changed is not transferred again, so it may run every hour.`,
		Example: "  touchmark revocation fetch http://status.example.com:8446 --ca ca/root.crt --out /var/lib/touchmark-offline",
	}
	c.Flags().StringVar(&f.dir, "out", ".", "where the files go, a `directory`")
	a.jsonFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		f.url, f.name = strings.TrimSuffix(args[0], "/"), vetting.DeviceCA
		if len(args) == 2 {
			f.name = args[1]
		}
		if f.name != vetting.DeviceCA {
			if err := vetting.CheckIssuingCAName(f.name); err != nil {
				return usagef("%v", err)
			}
		}
		filter, err := a.fetch(cmd.Context(), &f)
		if err != nil {
			return err
		}
		h := headerOf(filter.Header())
		raw, err := json.Marshal(h)
		if err != nil {
			return err
		}
		return a.print(raw, func(w io.Writer) { showHeader(w, h) })
	}
	return c
}

// fetch gets the files, verifies them, and puts them in their places.
func (a *app) fetch(ctx context.Context, f *fetcher) (*offline.Filter, error) {
	issuer, err := f.issuer(ctx)
	if err != nil {
		return nil, err
	}
	cross, err := f.cross(ctx)
	if err != nil {
		return nil, err
	}
	trusted, err := a.issuingCAs(nil, append(cross, issuer))
	if err != nil {
		return nil, err
	}
	if trusted[len(trusted)-1] != issuer {
		return nil, fmt.Errorf("the certificate of %s at %s is not signed by one of --ca: it is of %q", f.name, f.url, issuer.Subject)
	}
	filter, base, delta, err := f.files(ctx, issuer)
	if errors.Is(err, offline.ErrForeign) { // the base was replaced in between
		filter, base, delta, err = f.files(ctx, issuer)
	}
	if err != nil {
		return nil, err
	}
	if have := f.have(issuer); have != nil {
		if err := filter.Supersedes(have); err != nil {
			return nil, fmt.Errorf("%s offers older files than those in %s, which stay: %w", f.url, f.dir, err)
		}
	}
	return filter, f.write(map[string][]byte{".crt": allPEM(append([]*x509.Certificate{issuer}, cross...)), ".filter": base, ".delta": delta})
}

// fetcher gets an issuing CA's files from a status listener.
type fetcher struct {
	client         *http.Client
	url, name, dir string
}

func (f *fetcher) path(suffix string) string { return filepath.Join(f.dir, f.name+suffix) }

func (f *fetcher) issuer(ctx context.Context) (*x509.Certificate, error) {
	der, err := f.get(ctx, "/cacerts/"+f.name+".crt", "")
	if err != nil {
		return nil, err
	}
	if der == nil {
		return nil, fmt.Errorf("%s knows no issuing CA %s", f.url, f.name)
	}
	return x509.ParseCertificate(der)
}

// cross gets the certificates by which the roots of a roll-over signed each
// other; none if there is no roll-over.
func (f *fetcher) cross(ctx context.Context) ([]*x509.Certificate, error) {
	text, err := f.get(ctx, "/cacerts/cross.pem", "")
	if err != nil || text == nil {
		return nil, err
	}
	return ca.ParseCertificates(text)
}

// files gets a base and its delta, which is nil if there is none.
func (f *fetcher) files(ctx context.Context, issuer *x509.Certificate) (filter *offline.Filter, base, delta []byte, err error) {
	if base, err = f.get(ctx, publish.Path(f.name, offline.Base), f.path(".filter")); err != nil {
		return nil, nil, nil, err
	}
	if base == nil {
		return nil, nil, nil, fmt.Errorf("%s has no offline status of %s yet: try again in a minute", f.url, f.name)
	}
	if filter, err = offline.Open(base, issuer); err != nil {
		return nil, nil, nil, err
	}
	if delta, err = f.get(ctx, publish.Path(f.name, offline.Delta), f.path(".delta")); err != nil || delta == nil {
		return filter, base, nil, err
	}
	filter, err = filter.With(delta)
	return filter, base, delta, err
}

// have is what is in the directory, nil if that cannot be used.
func (f *fetcher) have(issuer *x509.Certificate) *offline.Filter {
	base, err := os.ReadFile(f.path(".filter"))
	if err != nil {
		return nil
	}
	filter, err := offline.Open(base, issuer)
	if err != nil {
		return nil
	}
	if delta, err := os.ReadFile(f.path(".delta")); err == nil {
		if with, err := filter.With(delta); err == nil {
			return with
		}
	}
	return filter
}

// maxFetched is larger than the filter of a billion certificates.
const maxFetched = 1 << 30

// get gets a file, or nil if there is none. What is in a file already is not
// transferred again.
func (f *fetcher) get(ctx context.Context, path, have string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+path, nil)
	if err != nil {
		return nil, usagef("%v", err)
	}
	var old []byte
	if have != "" {
		if old, err = os.ReadFile(have); err == nil {
			req.Header.Set("If-None-Match", fmt.Sprintf(`"%x"`, sha256.Sum256(old)))
		}
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		return old, nil
	case http.StatusNotFound:
		return nil, nil
	case http.StatusOK:
		return io.ReadAll(io.LimitReader(resp.Body, maxFetched))
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 500)) // for people only
	return nil, fmt.Errorf("%s%s: %s: %s", f.url, path, resp.Status, text)
}

// write puts files in their places, each as a whole; nil takes one away.
func (f *fetcher) write(files map[string][]byte) error {
	for _, suffix := range []string{".crt", ".filter", ".delta"} {
		path, content := f.path(suffix), files[suffix]
		if content == nil {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
			continue // who watches the file need not read it again
		}
		if err := replace(path, content); err != nil {
			return err
		}
	}
	return nil
}

func replace(path string, content []byte) error {
	t, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = t.Write(content)
	if err = errors.Join(err, t.Chmod(0o644), t.Sync(), t.Close()); err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		_ = os.Remove(t.Name())
	}
	return err
}
