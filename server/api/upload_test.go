package api_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto/tls"
	"crypto/x509"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

const near = "/orders/order-near/manifests"

func TestUpload(t *testing.T) {
	file := [4]string{"manifest", "application/jsonl", "m.jsonl", "{\"serial\":\"1\"}\r\n{}\n"}
	sig := func(s string) [4]string { return [4]string{"signature", "application/pkcs7-signature", "s.p7s", s} }
	for name, c := range map[string]struct {
		parts  [][4]string
		format vetting.ManifestFormat
		sigs   []string
	}{
		"signatures first":    {[][4]string{sig("a"), sig("b"), file}, vetting.FormatJSONLines, []string{"a", "b"}},
		"signatures last":     {[][4]string{file, sig("a"), sig("b")}, vetting.FormatJSONLines, []string{"a", "b"}},
		"signatures around":   {[][4]string{sig("a"), file, sig("b")}, vetting.FormatJSONLines, []string{"a", "b"}},
		"no signature":        {[][4]string{file}, vetting.FormatJSONLines, nil},
		"CSV":                 {[][4]string{{"manifest", "text/csv; charset=utf-8", "", file[3]}, sig("a")}, vetting.FormatCSV, []string{"a"}},
		"by the file's name":  {[][4]string{{"manifest", "application/octet-stream", "M.CSV", file[3]}, sig("a")}, vetting.FormatCSV, []string{"a"}},
		"by the name alone":   {[][4]string{{"manifest", "", "m.ndjson", file[3]}, sig("a")}, vetting.FormatJSONLines, []string{"a"}},
		"as many as possible": {append([][4]string{file}, slices.Repeat([][4]string{sig("a")}, 8)...), vetting.FormatJSONLines, strings.Split("aaaaaaaa", "")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			body, ct := form(t, c.parts...)
			got := w.as("site-operator", "POST", near, body, header("Content-Type", ct), header("Idempotency-Key", "k"))
			m := decode[vetting.Manifest](t, got, 201)
			im := w.importer
			if string(im.file) != file[3] || im.format != c.format || im.order != "order-near" || m.Size != int64(len(file[3])) {
				t.Errorf("the importer got %q as %s for %s", im.file, im.format, im.order)
			}
			var sigs []string
			for _, s := range im.signatures {
				sigs = append(sigs, string(s))
			}
			if !slices.Equal(sigs, c.sigs) {
				t.Errorf("signatures %q, want %q", sigs, c.sigs)
			}
			// No key: the digest in an act cannot cover the file.
			if act := im.acts[0]; act.Operator != "site-operator" || act.Key != "" {
				t.Errorf("act %+v", act)
			}
			if l := got.header.Get("Location"); l != "/api/v1/manifests/77" {
				t.Errorf("Location %q", l)
			}
		})
	}
}

func TestBadUploads(t *testing.T) {
	file := [4]string{"manifest", "text/csv", "m.csv", "serial\n1\n"}
	sig := [4]string{"signature", "", "s.p7s", "sig"}
	cut := func(b []byte, ct string, n int) ([]byte, string) { return b[:len(b)-n], ct }
	whole, ct := form(t, file, sig)
	tail := len(whole) - bytes.Index(whole, []byte("serial")) - len(file[3])
	for name, c := range map[string]struct {
		make   func() ([]byte, string)
		status int
		words  string
	}{
		"not a form":              {func() ([]byte, string) { return []byte("serial\n1\n"), "text/csv" }, 415, "multipart/form-data"},
		"no boundary":             {func() ([]byte, string) { return whole, "multipart/form-data" }, 415, "multipart/form-data"},
		"no manifest":             {func() ([]byte, string) { return form(t, sig) }, 422, "no part"},
		"empty form":              {func() ([]byte, string) { return form(t) }, 422, "no part"},
		"two manifests":           {func() ([]byte, string) { return form(t, file, file) }, 422, "more than one"},
		"unknown part":            {func() ([]byte, string) { return form(t, [4]string{"note", "", "", "x"}, file) }, 422, "note"},
		"unknown part at the end": {func() ([]byte, string) { return form(t, file, [4]string{"note", "", "", "x"}) }, 422, "note"},
		"too many signatures":     {func() ([]byte, string) { return form(t, append(slices.Repeat([][4]string{sig}, 9), file)...) }, 422, "more than 8"},
		"too many at the end": {func() ([]byte, string) {
			return form(t, append([][4]string{file}, slices.Repeat([][4]string{sig}, 9)...)...)
		}, 422, "more than 8"},
		"long signature": {func() ([]byte, string) {
			return form(t, [4]string{"signature", "", "", strings.Repeat("x", 128<<10+1)}, file)
		}, 422, "detached"},
		"unknown format":           {func() ([]byte, string) { return form(t, [4]string{"manifest", "application/pdf", "m.csv", "x"}) }, 415, "application/pdf"},
		"no format":                {func() ([]byte, string) { return form(t, [4]string{"manifest", "", "m", "x"}) }, 415, "no known format"},
		"cut in the last boundary": {func() ([]byte, string) { return cut(whole, ct, 4) }, 400, "broke off"},
		"cut in the signature":     {func() ([]byte, string) { return cut(whole, ct, len("sig")+4) }, 400, "broke off"},
		"cut behind the file":      {func() ([]byte, string) { return cut(whole, ct, tail) }, 400, "broke off"},
		"cut in the file":          {func() ([]byte, string) { return cut(whole, ct, tail+3) }, 400, "broke off"},
		"cut before the file":      {func() ([]byte, string) { return cut(whole, ct, len(whole)-20) }, 400, "broke"},
		"nothing":                  {func() ([]byte, string) { return nil, ct }, 400, "broke"},
		"too large": {func() ([]byte, string) {
			return form(t, [4]string{"manifest", "text/csv", "", strings.Repeat("x", 2<<20)}, sig)
		}, 413, "1048576"},
		"too large in the end": {func() ([]byte, string) {
			return form(t, [4]string{"manifest", "text/csv", "", strings.Repeat("x", 1<<20-300)}, [4]string{"signature", "", "", strings.Repeat("x", 1000)})
		}, 413, "1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			body, ct := c.make()
			refused(t, w.as("site-operator", "POST", near, body, header("Content-Type", ct)), c.status, c.words)
			if w.importer.kept != 0 {
				t.Error("something was kept")
			}
		})
	}
	w := newWorld(t)
	w.importer.err = &manifest.LineErrors{Total: 1, List: []manifest.LineError{{Line: 2, Text: "no serial"}}}
	p := refused(t, w.as("site-operator", "POST", near, whole, header("Content-Type", ct)), 422, "manifest")
	if len(p.Lines) != 1 || p.Lines[0].Line != 2 {
		t.Errorf("lines %v", p.Lines)
	}
	refused(t, w.as("site-operator", "POST", "/manifests/21/signatures", strings.Repeat("x", 128<<10+1)), 413)
}

// TestUploadStreams lets the client send the second half only after the first
// has reached the importer: the body is buffered nowhere.
func TestUploadStreams(t *testing.T) {
	w := newWorld(t)
	w.importer.seen = make(chan int)
	half := bytes.Repeat([]byte("0123456789abcde\n"), 4096) // 64 KiB
	in, out := io.Pipe()
	mw := multipart.NewWriter(out)
	go func() {
		part, err := mw.CreateFormFile("manifest", "m.csv")
		for i := 0; i < 2 && err == nil; i++ {
			_, err = part.Write(half)
			// A few KiB wait in the buffers of multipart and TLS on both
			// sides until more follows.
			for seen := 0; seen < len(half)/2 && i == 0; {
				seen += <-w.importer.seen
			}
		}
		go func() {
			for range w.importer.seen {
			}
		}()
		if err == nil {
			err = mw.Close()
		}
		out.CloseWithError(err)
	}()
	m := decode[vetting.Manifest](t, w.as("site-operator", "POST", near, in, header("Content-Type", mw.FormDataContentType())), 201)
	close(w.importer.seen)
	if m.Size != int64(2*len(half)) {
		t.Errorf("%d bytes arrived, want %d", m.Size, 2*len(half))
	}
}

// deadlines records what is asked of a connection.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = append(d.read, t); return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }

// TestUploadPostponesDeadlines checks that an upload may take as long as it
// keeps coming, and other requests may not.
func TestUploadPostponesDeadlines(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.Stall = time.Hour })
	send := func(path string, body []byte, ct string) *deadlines {
		d := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("POST", api.Base+path, bytes.NewReader(body))
		r.Header.Set("Content-Type", ct)
		cert := parse(t, w.certs["admin"].Certificate[0])
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
		w.api.ServeHTTP(d, r)
		if d.Code != http.StatusCreated {
			t.Fatalf("%s: status %d: %s", path, d.Code, d.Body)
		}
		return d
	}
	begin := time.Now()
	body, ct := form(t, [4]string{"manifest", "text/csv", "", strings.Repeat("x\n", 10000)}, [4]string{"signature", "", "", "s"})
	d := send(near, body, ct)
	if len(d.read) < 2 || len(d.write) != len(d.read) || d.read[0].Before(begin.Add(time.Hour)) || !d.write[0].After(d.read[0]) {
		t.Fatalf("deadlines were set to %v and %v", d.read, d.write)
	}
	if !d.read[len(d.read)-1].IsZero() || !d.write[len(d.write)-1].IsZero() {
		t.Errorf("with all of the body here, the deadlines are %v and %v", d.read, d.write)
	}
	if d := send("/sites", []byte(`{"name":"x"}`), "application/json"); len(d.write) != 0 || slices.ContainsFunc(d.read, func(t time.Time) bool { return !t.IsZero() }) {
		t.Errorf("an ordinary request set deadlines %v and %v", d.read, d.write)
	}
}

func FuzzUpload(f *testing.F) {
	body, ct := form(f, [4]string{"signature", "", "", "s1"}, [4]string{"manifest", "text/csv", "", "serial\n1\n"}, [4]string{"signature", "", "", "s2"})
	boundary := strings.TrimPrefix(ct, "multipart/form-data; boundary=")
	f.Add(body, boundary)
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"manifest\"; filename=\"a.csv\"\r\n\r\nx\r\n--b--"), "b")
	f.Fuzz(func(t *testing.T, body []byte, boundary string) {
		if boundary == "" {
			return
		}
		format, file, sigs, err := api.ReadUpload(bytes.NewReader(body), boundary)
		if err != nil {
			if file != nil || sigs != nil {
				t.Error("a broken form gave something")
			}
			return
		}
		if format != vetting.FormatCSV && format != vetting.FormatJSONLines {
			t.Errorf("format %q", format)
		}
		// What is handed on stands in the form, byte for byte, and a form
		// that lacks its last bytes is no form.
		for _, piece := range append(sigs, file) {
			if !bytes.Contains(body, piece) {
				t.Errorf("%q is not in the form", piece)
			}
		}
		end := bytes.LastIndex(body, fmt.Appendf(nil, "--%s--", boundary))
		if end < 0 {
			t.Fatal("a form without an end was accepted")
		}
		if first := bytes.Index(body, fmt.Appendf(nil, "--%s--", boundary)); first == end {
			if _, _, _, err := api.ReadUpload(bytes.NewReader(body[:end]), boundary); err == nil {
				t.Error("the form was accepted without its end")
			}
		}
	})
}
