package device

import (
	"bufio"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.mozilla.org/pkcs7"
)

// A device that is made again after FollowRoots trusts the new root without
// asking, and one whose store cannot keep it does not trust it at all.
func TestRootsAreKept(t *testing.T) {
	later := time.Now().Add(time.Hour)
	old, next := newAnchor(t, "Root"), newAnchor(t, "Root")
	given, fresh := old.signs(t, old, true, later), next.signs(t, next, true, later)
	der := make([]byte, 0, 4096)
	for _, c := range []*x509.Certificate{given, old.signs(t, next, true, later), next.signs(t, old, true, later), fresh} {
		der = append(der, c.Raw...)
	}
	message, err := pkcs7.DegenerateCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
		fmt.Fprint(w, base64.StdEncoding.EncodeToString(message))
	}))
	defer server.Close()
	dir := t.TempDir()
	made := func() *Device {
		store, err := OpenFileStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		d := &Device{Serial: "SN-1", Store: store, Root: given, Client: &Client{URL: server.URL, Roots: x509.NewCertPool()}}
		if err := d.RecallRoots(); err != nil {
			t.Fatal(err)
		}
		return d
	}
	spoilt := made()
	if err := os.Mkdir(filepath.Join(dir, "roots.pem"), 0o700); err != nil { // which no file can replace
		t.Fatal(err)
	}
	if got, err := spoilt.FollowRoots(t.Context()); err == nil || len(got) > 0 || len(spoilt.Successors) > 0 {
		t.Errorf("a root that could not be kept is trusted: %d, %v", len(got), err)
	}
	if err := os.Remove(filepath.Join(dir, "roots.pem")); err != nil {
		t.Fatal(err)
	}
	if got, err := made().FollowRoots(t.Context()); err != nil || len(got) != 1 || !got[0].Equal(fresh) {
		t.Fatalf("%d new roots, %v", len(got), err)
	}
	again := made()
	if len(again.Successors) != 1 || !again.Successors[0].Equal(fresh) || again.Client.Roots.Equal(x509.NewCertPool()) {
		t.Errorf("made again, the device trusts %d roots more", len(again.Successors))
	}
	if got, err := again.FollowRoots(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("asked again, %d are new, %v", len(got), err)
	}
}

// keeperDir names the directory in which a process keeps roots until it is
// killed.
const keeperDir = "DEVICE_TEST_KEEPS_ROOTS"

// A device that is killed while it keeps roots has those that it was told are
// kept, and no half of one.
func TestKilledWhileRootsAreKept(t *testing.T) {
	if dir := os.Getenv(keeperDir); dir != "" {
		keepUntilKilled(t, dir)
	}
	for _, told := range []int{1, 2, 5} {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledWhileRootsAreKept$")
		cmd.Env = append(os.Environ(), keeperDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range told {
			if !lines.Scan() {
				t.Fatalf("the process ended: %v", cmd.Wait())
			}
		}
		if err := cmd.Process.Kill(); err != nil { // in the middle of the next ones
			t.Fatal(err)
		}
		_ = cmd.Wait()
		store, err := OpenFileStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := store.Roots()
		if err != nil || len(kept) < told {
			t.Errorf("after %d were kept: %d, %v", told, len(kept), err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "roots.pem"))
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			whole++
			if text = rest; len(text) == 0 {
				break
			}
		}
		if whole != len(kept) || len(text) != 0 {
			t.Errorf("the file holds %d whole certificates and %d bytes of another", whole, len(text))
		}
		fresh := newAnchor(t, "Last")
		if err := store.KeepRoots([]*x509.Certificate{fresh.signs(t, fresh, true, time.Now().Add(time.Hour))}); err != nil {
			t.Errorf("beside what the killed process left: %v", err)
		}
	}
}

func keepUntilKilled(t *testing.T, dir string) {
	store, err := OpenFileStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	for {
		a := newAnchor(t, "Root")
		if err := store.KeepRoots([]*x509.Certificate{a.signs(t, a, true, time.Now().Add(time.Hour))}); err != nil {
			t.Fatal(err)
		}
		fmt.Println("kept")
	}
}
