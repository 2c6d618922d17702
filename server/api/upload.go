package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

func manifestPath(m *vetting.Manifest) string { return fmt.Sprintf("/manifests/%d", m.ID) }

// upload is a manifest with its signatures on the way in (multipart/form-data,
// RFC 7578). Reading it gives the file; the end of the file is only told when
// the whole request has arrived, signatures behind the file included, so that
// an upload which breaks off there leaves nothing behind either.
type upload struct {
	parts      *multipart.Reader
	body       io.Reader // beneath parts
	file       *multipart.Part
	signatures [][]byte
	// failed is what went wrong on the wire or with the form; everything
	// read before it is void.
	failed error
	done   bool
}

func (a *API) openUpload(c *call) (*upload, error) {
	body := http.MaxBytesReader(c.w, c.r.Body, a.config.MaxManifest)
	c.r.Body = newPatient(body, http.NewResponseController(c.w), a.config.Stall)
	parts, err := c.r.MultipartReader()
	if err != nil {
		return nil, problem(http.StatusUnsupportedMediaType, "the body must be multipart/form-data with a part \"manifest\" and parts \"signature\" (curl: -F manifest=@FILE -F signature=@FILE.p7s): %v", err)
	}
	return &upload{parts: parts, body: c.r.Body}, nil
}

// leastUpload is how many bytes of an upload have to arrive in the time that
// it may stall. With the standard of a minute that is 1 KiB a second.
const leastUpload = 64 << 10

// patient reads a body for as long as it keeps coming, whatever time limit
// the server sets on ordinary requests. Only waiting for the client counts,
// not what the server does with what came.
type patient struct {
	io.ReadCloser
	conn  *http.ResponseController
	stall time.Duration
	now   func() time.Time

	left    time.Duration // to wait for what is missing of leastUpload
	missing int
}

func newPatient(body io.ReadCloser, conn *http.ResponseController, stall time.Duration) *patient {
	// Deadlines of connections are in real time, so the server's clock has
	// no say here. Where the connection has none, there is none to extend.
	return &patient{ReadCloser: body, conn: conn, stall: stall, now: time.Now, left: stall, missing: leastUpload}
}

func (p *patient) Read(b []byte) (int, error) {
	began := p.now()
	until := began.Add(p.left)
	p.limit(until, until.Add(p.stall)) // the answer comes after
	n, err := p.ReadCloser.Read(b)
	if err == io.EOF {
		// All is here. What is left to do with it takes as long as it takes,
		// and a limit on reading that strikes meanwhile would break it off.
		p.limit(time.Time{}, time.Time{})
	}
	p.left -= p.now().Sub(began)
	if p.missing -= n; p.missing <= 0 {
		p.left, p.missing = p.stall, leastUpload
	}
	return n, err
}

func (p *patient) limit(read, write time.Time) {
	_ = p.conn.SetReadDeadline(read)
	_ = p.conn.SetWriteDeadline(write)
}

// manifest goes to the part that holds the file and tells its format.
func (u *upload) manifest() (vetting.ManifestFormat, error) {
	for {
		part, err := u.next()
		if err == io.EOF {
			return "", invalid("body.manifest", "the form has no part \"manifest\": add the file (curl: -F manifest=@FILE)")
		}
		if err != nil {
			return "", err
		}
		if part != nil {
			u.file = part
			return formatOf(part)
		}
	}
}

// next reads one part: a signature is kept, the manifest is returned.
func (u *upload) next() (*multipart.Part, error) {
	// Raw: a signature is over exact bytes, so nothing may decode them.
	part, err := u.parts.NextRawPart()
	if err == io.EOF {
		return nil, io.EOF
	}
	if err != nil {
		return nil, formError(err)
	}
	switch name := part.FormName(); {
	case name == "manifest" && u.file == nil:
		return part, nil
	case name == "signature" && len(u.signatures) < vetting.MaxSignatures:
		sig, err := io.ReadAll(io.LimitReader(part, maxSignatureBody+1))
		if err != nil {
			return nil, formError(err)
		}
		if len(sig) > maxSignatureBody {
			return nil, invalid("body.signature", "a signature is longer than %d bytes: send detached signatures, without the file inside", maxSignatureBody)
		}
		u.signatures = append(u.signatures, sig)
		return nil, nil
	case name == "signature":
		return nil, invalid("body.signature", "the form has more than %d signatures", vetting.MaxSignatures)
	case name == "manifest":
		return nil, invalid("body.manifest", "the form has more than one part \"manifest\": hand in one file at a time")
	default:
		return nil, invalid("body", "the form has a part %q: only \"manifest\" and \"signature\" are known", name)
	}
}

// Read gives the bytes of the file.
func (u *upload) Read(b []byte) (int, error) {
	switch {
	case u.failed != nil:
		return 0, u.failed
	case u.done:
		return 0, io.EOF
	}
	n, err := u.file.Read(b)
	if err == io.EOF {
		err = u.finish()
	} else if err != nil {
		err = formError(err)
	}
	if err == io.EOF {
		u.done = true
	} else {
		u.failed = err
	}
	return n, err
}

// finish reads what follows the file, to the end of the body. It returns
// io.EOF at the good end.
func (u *upload) finish() error {
	for {
		_, err := u.next()
		if err == io.EOF {
			if _, err := io.Copy(io.Discard, u.body); err != nil {
				return formError(err)
			}
		}
		if err != nil {
			return err
		}
	}
}

// allSignatures are known once the file was read to its end.
func (u *upload) allSignatures() ([][]byte, error) {
	if !u.done {
		return nil, errors.New("the signatures were asked for before the manifest was read to its end")
	}
	return u.signatures, nil
}

// formError is what bodyError is, for a form.
func formError(err error) error {
	switch {
	case hasAnswer(err):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return problem(http.StatusBadRequest, "the upload broke off before its end, nothing of it was kept: hand the manifest in again")
	}
	return problem(http.StatusBadRequest, "the multipart/form-data body is broken, nothing of it was kept: %v", err)
}

// formats are the media types and file name endings of manifests.
var formats = map[string]vetting.ManifestFormat{
	"application/jsonl": vetting.FormatJSONLines, "application/x-jsonlines": vetting.FormatJSONLines,
	"application/x-ndjson": vetting.FormatJSONLines, "application/jsonlines": vetting.FormatJSONLines,
	"text/csv": vetting.FormatCSV,
	".jsonl":   vetting.FormatJSONLines, ".ndjson": vetting.FormatJSONLines, ".csv": vetting.FormatCSV,
}

// formatOf tells a manifest's format: by its type, and where a client knows
// no better than a stream of bytes, by the file's name.
func formatOf(p *multipart.Part) (vetting.ManifestFormat, error) {
	declared := p.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(declared)
	if f, ok := formats[kind]; ok && err == nil {
		return f, nil
	}
	if declared == "" || kind == "application/octet-stream" {
		if f, ok := formats[strings.ToLower(path.Ext(p.FileName()))]; ok {
			return f, nil
		}
	}
	return "", problem(http.StatusUnsupportedMediaType, "the part \"manifest\" has the type %q and the file name %q, which name no known format: send application/jsonl or text/csv (curl: -F 'manifest=@FILE;type=text/csv')", declared, p.FileName())
}
