package foreign

import (
	"context"
	"crypto/x509/pkix"
	"encoding/xml"
	"fmt"
	"image"
	"image/color"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// What a scanner reads from a printed label is enough for a foreign client to
// enrol a device that has no key of its own on record: once.
func TestEnrolFromLabel(t *testing.T) {
	ctx, w := context.Background(), newWorld(t)
	w.admin("product", "update", "thermo", "--proof", "code")
	w.admin("order", "open", "po-1")
	file := filepath.Join(t.TempDir(), "units.jsonl")
	if err := os.WriteFile(file, []byte("{\"serial\":\"SN-1\"}\n{\"serial\":\"SN-2\"}\n{\"serial\":\"SN-3\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must("--dir", w.lin, "--server", "https://"+w.api, "manifest", "upload", "po-1", file, "--sign")
	sheet := filepath.Join(t.TempDir(), "labels.html")
	w.admin("code", "create", "--order", "po-1", "--count", "2", "--out", sheet)
	labels := scan(t, sheet)
	sheet = filepath.Join(t.TempDir(), "label.html")
	w.admin("code", "create", "--device", "SN-3", "--out", sheet, "--est", "est.example.com:443")
	labels = append(labels, scan(t, sheet)...)
	if len(labels) != 3 || labels[0].Host != labels[1].Host || labels[2].Host != "est.example.com:443" || labels[2].Query().Get("serial") != "SN-3" {
		t.Fatalf("the labels hold %v", labels)
	}
	for i, l := range labels {
		if l.Scheme != "touchmark" || l.Path != "/thermo" || l.Query().Get("order") != "po-1" {
			t.Errorf("label %d holds %v", i, l)
		}
	}

	c := w.client(nil)
	if labels[0].Host != c.Host {
		t.Errorf("the label names %s, the server is at %s", labels[0].Host, c.Host)
	}
	key := newKey(t)
	csr := request(t, key, pkix.Name{})
	c.Username, c.Password = "SN-1", "0000-0000-0000-0000"
	_, err := c.Enroll(ctx, csr)
	refused(t, err, http.StatusUnauthorized, "no such enrolment code")
	c.Password = labels[0].Query().Get("code")
	cert, err := c.Enroll(ctx, csr)
	if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		t.Fatalf("%v, %v", cert, err)
	}
	if again, err := c.Enroll(ctx, csr); err != nil || !again.Equal(cert) {
		t.Errorf("asking twice: %v, %v", again, err)
	}
	c.Username = "SN-2"
	_, err = c.Enroll(ctx, request(t, newKey(t), pkix.Name{}))
	refused(t, err, http.StatusForbidden, "used already")
	c.Password = labels[1].Query().Get("code")
	if _, err := c.Enroll(ctx, request(t, newKey(t), pkix.Name{})); err != nil {
		t.Errorf("the second label: %v", err)
	}
	c.Username, c.Password = "SN-3", labels[2].Query().Get("code")
	if _, err := c.Enroll(ctx, request(t, newKey(t), pkix.Name{})); err != nil {
		t.Errorf("the label of the device: %v", err)
	}
}

// scan reads the QR codes of a sheet of labels as it would be printed.
func scan(t *testing.T, file string) (found []*url.URL) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, drawing := range regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAll(text, -1) {
		bitmap, err := gozxing.NewBinaryBitmapFromImage(rasterize(t, drawing))
		if err != nil {
			t.Fatal(err)
		}
		// The library's search for a code in a photograph misses one clean
		// drawing in two hundred; here is nothing to be searched for.
		read, err := qrcode.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true})
		if err != nil {
			t.Fatalf("no QR code is found: %v", err)
		}
		u, err := url.Parse(read.GetText())
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, u)
	}
	return found
}

// rasterize draws an SVG of one path, whose parts are rectangles.
func rasterize(t *testing.T, drawing []byte) image.Image {
	t.Helper()
	var svg struct {
		ViewBox string `xml:"viewBox,attr"`
		Path    struct {
			D string `xml:"d,attr"`
		} `xml:"path"`
	}
	var side, other int
	if err := xml.Unmarshal(drawing, &svg); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(svg.ViewBox, "0 0 %d %d", &side, &other); err != nil || side != other {
		t.Fatalf("viewBox %q: %v", svg.ViewBox, err)
	}
	const dots = 6 // for each module, as a printer does it
	img := image.NewGray(image.Rect(0, 0, side*dots, side*dots))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(svg.Path.D, "z"), "z") {
		var x, y, wide, back int
		if _, err := fmt.Sscanf(part, "M%d %dh%dv1h-%d", &x, &y, &wide, &back); err != nil || wide != back {
			t.Fatalf("part %q: %v", part, err)
		}
		for dy := range dots {
			for dx := range wide * dots {
				img.SetGray(x*dots+dx, y*dots+dy, color.Gray{})
			}
		}
	}
	return img
}
