package docs

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/devicesim"
)

// TestRootCeremony does what docs/guides/root-ceremony.md says, word for word
// but for the --yes of a script, and restarts the server where it says so. All
// the while a fleet enrols, renews and uses its certificates: none is refused,
// and all certificates verify by openssl from either root.
func TestRootCeremony(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := t.TempDir()
	if err := os.Symlink(w.dir, filepath.Join(dir, "tm")); err != nil {
		t.Fatal(err)
	}
	path := shim(t, map[string]string{"touchmark": `case "$*" in "ca sign "*|*" ca import "*|*root-rollover*) set -- "$@" --yes;; esac
exec "` + bin + `/touchmark" "$@"`})
	f := newLivingFleet(t, w)
	said, roots := "", map[string]string{"old": write(t, "old.crt", read(t, w.root()))}
	for _, block := range blocks(t, "guides/root-ceremony.md") {
		if strings.Contains(block, "root-rollover finish") {
			f.follow() // the guide says to wait for that
			delete(roots, "old")
		}
		out, err := script(t, dir, path, block, "TOUCHMARK_SERVER="+w.api)
		if err != nil {
			t.Fatalf("%s: %v\n%s", block, err, out)
		}
		said += out
		if strings.Contains(out, "Restart") {
			w.stop()
			w.serve()
			f.server(w.est)
		}
		if _, err := os.Stat(filepath.Join(dir, "rollover.pem")); err == nil && roots["new"] == "" {
			roots["new"] = write(t, "new.crt", newRoot(t, filepath.Join(dir, "rollover.pem")))
		}
		f.lives()
		if strings.Contains(said, "The root roll-over has begun") {
			f.verifies(block, roots)
		}
	}
	f.end()
	for _, want := range []string{"CN=devices-2027", "key (SHA-256)", "certificates.pem: OK", "devices, by default", "Now the new root is in force", "Now there is one root again"} {
		if !strings.Contains(said, want) {
			t.Errorf("the ceremony did not say %q:\n%s", want, said)
		}
	}
	if left, err := filepath.Glob(filepath.Join(w.dir, "keys", "root*")); err != nil || len(left) > 0 {
		t.Errorf("the server's directory holds %v (%v)", left, err)
	}
	w.cli(t, "audit", "verify")
}

// newRoot is the second certificate of a roll-over, the new root.
func newRoot(t *testing.T, file string) string {
	t.Helper()
	const end = "-----END CERTIFICATE-----\n"
	return strings.SplitAfter(read(t, file), end)[1]
}

// livingFleet are devices that live on while the server is worked on: each
// renews, on new keys, and uses what it got, over and over.
type livingFleet struct {
	t     *testing.T
	world *world
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu      sync.Mutex
	moved   *sync.Cond
	est     string
	rounds  []int // that each device finished
	latest  []*x509.Certificate
	follows bool                // all devices, and not every other one, follow the roots
	certs   []*x509.Certificate // what each had at the end of each step
	failed  bool
}

const livingDevices = 4

func newLivingFleet(t *testing.T, w *world) *livingFleet {
	t.Helper()
	w.cli(t, "product", "create", "thermostat", "--validity", "825d")
	w.cli(t, "site", "create", "hsinchu")
	w.cli(t, "order", "create", "PO-1", "--product", "thermostat", "--site", "hsinchu", "--quantity", fmt.Sprint(livingDevices), "--open")
	lin := filepath.Join(t.TempDir(), "lin")
	w.cli(t, "operator", "add", "lin", "--role", "site-operator", "--site", "hsinchu", "--out", lin)
	factory := devicesim.Factory{Prefix: "SN-", Block: 1, Now: time.Now}
	units, err := factory.Build(0, livingDevices)
	if err != nil {
		t.Fatal(err)
	}
	w.as(t, lin, "manifest", "upload", "PO-1", write(t, "manifest.jsonl", string(factory.Manifest(units))), "--sign")
	root, err := devicesim.LoadCertificate(w.root())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f := &livingFleet{t: t, world: w, stop: cancel, est: w.est, rounds: make([]int, livingDevices), latest: make([]*x509.Certificate, livingDevices)}
	f.moved = sync.NewCond(&f.mu)
	t.Cleanup(f.end)
	for n, u := range units {
		d := &device.Device{Serial: u.Serial, Store: u.Store, Root: root, Client: devicesim.Server{EST: w.est, Root: root}.Client()}
		f.done.Go(func() { f.live(ctx, n, d) })
	}
	f.lives()
	return f
}

func (f *livingFleet) end() {
	f.stop()
	f.done.Wait()
}

// server tells where the server is by now.
func (f *livingFleet) server(est string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.est = est
}

// follow has every device follow the roots, and waits until each has done so.
func (f *livingFleet) follow() {
	f.mu.Lock()
	f.follows = true
	f.mu.Unlock()
	f.lives()
}

// lives waits until every device has begun and ended a round.
func (f *livingFleet) lives() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, start := range append([]int(nil), f.rounds...) {
		for f.rounds[n] < start+2 && !f.failed {
			f.moved.Wait()
		}
	}
	if f.failed {
		f.t.FailNow()
	}
	f.certs = append(f.certs, f.latest...)
}

// live is a device's life. It fails if it would have to give up; while the
// server is being restarted it tries again.
func (f *livingFleet) live(ctx context.Context, n int, d *device.Device) {
	for ctx.Err() == nil {
		cert, err := f.round(ctx, n, d)
		var line *device.LineError
		var status *device.StatusError
		f.mu.Lock()
		switch {
		case err == nil:
			f.rounds[n]++
			f.latest[n] = cert
		case ctx.Err() == nil && !errors.As(err, &line) && !(errors.As(err, &status) && !status.Final()):
			f.t.Errorf("%s lost service: %v", d.Serial, err)
			f.failed = true
			f.stop()
		}
		f.moved.Broadcast()
		f.mu.Unlock()
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // a device's own pause
			}
		}
	}
}

func (f *livingFleet) round(ctx context.Context, n int, d *device.Device) (*x509.Certificate, error) {
	f.mu.Lock()
	follows := f.follows || n%2 == 0
	d.Client.URL = f.est
	f.mu.Unlock()
	if follows {
		if _, err := d.FollowRoots(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := d.PowerOn(ctx); err != nil {
		return nil, err
	}
	if err := d.Use(ctx); err != nil {
		return nil, err
	}
	renewed, err := d.Renew(ctx, true)
	if err != nil {
		return nil, err
	}
	return renewed.Leaf(), d.Use(ctx)
}

// verifies has openssl verify all certificates that the fleet ever had, from
// the viewpoint of who trusts one root only, and has what /cacerts gave.
func (f *livingFleet) verifies(step string, roots map[string]string) {
	f.t.Helper()
	f.mu.Lock()
	certs := append([]*x509.Certificate(nil), f.certs...)
	f.mu.Unlock()
	dir := f.t.TempDir()
	var files []string
	for n, c := range certs {
		files = append(files, filepath.Join(dir, fmt.Sprintf("%d.crt", n)))
		if err := os.WriteFile(files[n], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	for name, root := range roots {
		answer := must(f.t, "curl", "--silent", "--show-error", "--fail", "--cacert", root, f.world.est+"/.well-known/est/cacerts")
		der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(answer, "\n", ""))
		if err != nil {
			f.t.Fatal(err)
		}
		cas := must(f.t, "openssl", "pkcs7", "-inform", "DER", "-print_certs", "-in", write(f.t, "cas.p7", string(der)))
		out, told, code := outcome(f.t, "openssl", append([]string{"verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", root, "-untrusted", write(f.t, "cas.pem", cas)}, files...)...)
		if code != 0 || strings.Count(out, ": OK\n") != len(files) {
			f.t.Errorf("after %s: who trusts the %s root alone: %s%s", step, name, out, told)
		}
	}
}
