package est

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte("MIIB"))
	f.Add([]byte(" M\tI\r\nIB\n"))
	f.Add([]byte("MIIB===="))
	f.Fuzz(func(t *testing.T, text []byte) {
		packed := bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' || r == ' ' || r == '\t' {
				return -1
			}
			return r
		}, text)
		want, wantErr := base64.StdEncoding.Strict().DecodeString(string(packed))
		got, err := decode(bytes.Clone(text))
		var bad *enroll.RequestError
		switch {
		case err != nil && !errors.As(err, &bad):
			t.Errorf("the client's fault is reported as %T", err)
		case err == nil && (wantErr != nil || !bytes.Equal(got, want)):
			t.Errorf("decoded %q to %x, want %x, %v", text, got, want, wantErr)
		case err != nil && wantErr == nil && len(packed) > 0 && bytes.Equal(packed, text):
			t.Errorf("refused %q: %v", text, err)
		}
		if err == nil {
			if again, err := decode(encode(got)); err != nil || !bytes.Equal(again, got) {
				t.Errorf("%x does not survive encoding: %v", got, err)
			}
		}
	})
}

// The border between one line and many is where clients differ.
func TestShortBodiesAreUnbroken(t *testing.T) {
	if body := encode(make([]byte, shortBody/4*3)); bytes.ContainsAny(body, "\r\n") {
		t.Error("a short body is broken")
	}
	long := encode(make([]byte, shortBody))
	for line := range bytes.SplitSeq(bytes.TrimSuffix(long, []byte("\n")), []byte("\n")) {
		if len(line) > lineLength {
			t.Errorf("a line of %d characters", len(line))
		}
	}
}

// A client that is too slow is told so; it is no fault of the server's.
func TestSlowBody(t *testing.T) {
	late := iotest.ErrReader(&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded})
	_, err := readBody(&http.Request{Body: io.NopCloser(io.MultiReader(strings.NewReader("MIIB"), late))})
	var p *httperr.Error
	if !errors.As(err, &p) || p.Status != http.StatusRequestTimeout {
		t.Errorf("%T: %v", err, err)
	}
}
