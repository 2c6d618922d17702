package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/vetting/manifest"
)

// importing is one run of the manifest import on one database.
type importing struct {
	rate, bare float64 // records per second
	memory     int64   // the most that the process held meanwhile, in bytes; 0 if unknown

	// What the process took for it, which tells more than the rates where
	// others work on the machine too: processor time, and bytes sent to the
	// disk.
	cpu, bareCPU         time.Duration
	written, bareWritten int64
}

// measureImport hands a signed manifest in over the wire, waits until its
// last record is in place, and then inserts the same rows once more into a
// table without Touchmark.
func (b *bench) measureImport(ctx context.Context, db string) (m importing, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), b.records)
	if err != nil {
		return m, err
	}
	defer drop()
	lin, err := w.admin.Hire(ctx, "lin", "site-operator", "hsinchu")
	if err != nil {
		return m, err
	}
	file, signature, err := signedFile(dir, 0, b.records, lin)
	if err != nil {
		return m, err
	}
	defer file.Close()
	forgetPeak()
	began, cpu, out := time.Now(), processor(), written()
	_, err = b.watched("import", func() (*load, error) { return nil, w.handIn(ctx, lin, file, signature) })
	if err != nil {
		return m, fmt.Errorf("import: %w", err)
	}
	m.rate, m.memory = float64(b.records)/time.Since(began).Seconds(), peak()
	m.cpu, m.written = processor()-cpu, written()-out
	cpu, out = processor(), written()
	took, err := bareInsert(ctx, w.dsn)
	if err != nil {
		return m, fmt.Errorf("bare insert: %w", err)
	}
	m.bare = float64(b.records) / took.Seconds()
	m.bareCPU, m.bareWritten = processor()-cpu, written()-out
	return m, nil
}

// signedFile writes a manifest of records, and signs it.
func signedFile(dir string, from, to int, by *devicesim.Operator) (*os.File, []byte, error) {
	file, err := os.Create(filepath.Join(dir, "manifest.jsonl"))
	if err != nil {
		return nil, nil, err
	}
	if _, err := io.Copy(file, newFactoryFile(from, to)); err != nil {
		return nil, nil, err
	}
	signature, err := manifest.SignFile(file.Name(), by.Cert, by.Key, time.Now())
	if err != nil {
		return nil, nil, err
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, signature, err
}

// handIn uploads a manifest and waits until it is loaded.
func (w *world) handIn(ctx context.Context, by *devicesim.Operator, file io.Reader, signature []byte) error {
	body, in := io.Pipe()
	form := multipart.NewWriter(in)
	go func() { in.CloseWithError(fillForm(form, file, signature)) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.api+"/api/v1/orders/po-1/manifests", body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", form.FormDataContentType())
	transport := &http.Transport{TLSClientConfig: w.tls(&device.Credential{Key: by.Key, Chain: []*x509.Certificate{by.Cert}})}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusCreated {
		return fmt.Errorf("%d: %s, %v", response.StatusCode, answer, err)
	}
	var m struct {
		ID             int64
		State          string
		Records, Fresh int64
	}
	if err := json.Unmarshal(answer, &m); err != nil {
		return err
	}
	for m.State == "accepted" {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if err := w.admin.Do(ctx, http.MethodGet, fmt.Sprintf("/manifests/%d", m.ID), nil, &m); err != nil {
			return err
		}
	}
	if m.State != "loaded" || m.Fresh != m.Records {
		return fmt.Errorf("it ended as %+v", m)
	}
	return nil
}

func fillForm(form *multipart.Writer, file io.Reader, signature []byte) error {
	part := func(name, kind string) (io.Writer, error) {
		return form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="%s"; filename="%s"`, name, name)}, "Content-Type": {kind}})
	}
	p, err := part("manifest", "application/jsonl")
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(p, file, make([]byte, 64<<10)); err != nil {
		return err
	}
	if p, err = part("signature", "application/pkcs7-signature"); err != nil {
		return err
	}
	if _, err := p.Write(signature); err != nil {
		return err
	}
	return form.Close()
}
