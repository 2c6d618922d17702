// Package e2e tests Touchmark as a whole: real servers in processes of their
// own, real databases, the simulator's devices on the wire.
package e2e

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/vetting"
)

// serveEnv makes the test binary be a server on the configuration it names.
const serveEnv = "TOUCHMARK_E2E_SERVE"

func TestMain(m *testing.M) {
	if file := os.Getenv(serveEnv); file != "" {
		if err := serve(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serve(file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config, err := server.LoadConfig(file)
	if err != nil {
		return err
	}
	srv, err := server.New(ctx, config, server.Environment{Log: slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	if err := srv.Start(ctx); err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	return srv.Stop(context.WithoutCancel(ctx))
}

// installation is a Touchmark with its CAs and database, and the process
// that serves it.
type installation struct {
	t       *testing.T
	dir     string
	dsn     string
	est     string
	api     string
	status  string
	process *exec.Cmd
}

// install makes a new one. Its ports stay the same over restarts.
func install(t *testing.T, dsn string) *installation {
	t.Helper()
	return installAt(t, dsn, time.Now)
}

// installAt is install by a clock of the test's.
func installAt(t *testing.T, dsn string, now func() time.Time) *installation {
	t.Helper()
	i := &installation{t: t, dir: filepath.Join(t.TempDir(), "touchmark"), dsn: dsn}
	c := i.config()
	_, err := server.Init(context.Background(), server.Plan{Dir: i.dir, Organization: "Acme", Config: c, Admin: "admin"}, server.Environment{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *installation) config() *server.Config {
	c := server.Default()
	c.Database, c.Names = i.dsn, []string{"127.0.0.1"}
	c.Audit.Origin = "127.0.0.1/audit"
	c.EST.Listen, c.MQTT.Listen, c.API.Listen, c.Status.Listen, c.Ops.Listen = freePort(i.t), "", freePort(i.t), freePort(i.t), ""
	c.Status.URL = "http://" + c.Status.Listen
	i.est, i.api, i.status = "https://"+c.EST.Listen, "https://"+c.API.Listen, c.Status.URL
	return c
}

// overMQTT opens the MQTT door, too, and gives its address.
func (i *installation) overMQTT() string {
	i.t.Helper()
	c := i.config()
	c.MQTT.Listen, c.Dir = freePort(i.t), "."
	if err := os.WriteFile(filepath.Join(i.dir, server.ConfigFile), []byte(server.Sample(c)), 0o600); err != nil {
		i.t.Fatal(err)
	}
	return c.MQTT.Listen
}

// sibling is a second server of the same Touchmark, with ports and a
// checkpoint file of its own.
func (i *installation) sibling() *installation {
	i.t.Helper()
	s := &installation{t: i.t, dir: filepath.Join(i.t.TempDir(), "sibling"), dsn: i.dsn}
	if out, err := exec.Command("cp", "-rp", i.dir, s.dir).CombinedOutput(); err != nil {
		i.t.Fatalf("%s", out)
	}
	c := s.config()
	c.Dir = "."
	if err := os.WriteFile(filepath.Join(s.dir, server.ConfigFile), []byte(server.Sample(c)), 0o600); err != nil {
		i.t.Fatal(err)
	}
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the server's process and returns when it serves.
func (i *installation) start() {
	i.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+filepath.Join(i.dir, server.ConfigFile))
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		_ = cmd.Wait()
		i.t.Fatalf("the server did not start: %s", complaints.String())
	}
	i.process = cmd
	i.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// serveHere serves in this process, by a clock of the test's, until that ends.
func (i *installation) serveHere(now func() time.Time) {
	i.t.Helper()
	config, err := server.LoadConfig(filepath.Join(i.dir, server.ConfigFile))
	if err != nil {
		i.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(i.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := server.New(i.t.Context(), config, server.Environment{Log: log, Now: now})
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(i.t.Context())); err != nil {
			i.t.Errorf("stop: %v", err)
		}
	})
	if err := s.Start(i.t.Context()); err != nil {
		i.t.Fatal(err)
	}
}

// kill ends the process as a power cut does.
func (i *installation) kill() {
	_ = i.process.Process.Kill()
	_ = i.process.Wait()
}

// stop ends it in good order.
func (i *installation) stop() {
	i.t.Helper()
	if err := i.process.Process.Signal(syscall.SIGTERM); err != nil {
		i.t.Fatal(err)
	}
	if err := i.process.Wait(); err != nil {
		i.t.Fatalf("the server did not stop in good order: %v", err)
	}
}

func (i *installation) server() devicesim.Server {
	i.t.Helper()
	root, err := devicesim.LoadCertificate(filepath.Join(i.dir, "ca", "root.crt"))
	if err != nil {
		i.t.Fatal(err)
	}
	device, err := devicesim.LoadCertificate(filepath.Join(i.dir, "ca", "device-ca.crt"))
	if err != nil {
		i.t.Fatal(err)
	}
	s := devicesim.Server{EST: i.est, Root: root}
	s.CAs = append(s.CAs, device)
	return s
}

func (i *installation) admin() *devicesim.Operator {
	i.t.Helper()
	o, err := devicesim.LoadOperator(i.api, i.server().Root, filepath.Join(i.dir, "admin.crt"), filepath.Join(i.dir, "admin.key"))
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(o.Close)
	return o
}

// order creates a product, a site and an open order "po-1", and a site
// operator who hands in the units' manifest.
func (i *installation) order(quantity int, units []*devicesim.Unit, f devicesim.Factory) {
	i.t.Helper()
	i.manifest(quantity, f.Manifest(units), len(units), "bootstrap-key", "rig")
}

// manifest does the same with a manifest of n records, for a product that wants
// one of the proofs.
func (i *installation) manifest(quantity int, text []byte, n int, proofs ...string) {
	i.t.Helper()
	ctx, admin := context.Background(), i.admin()
	type object = map[string]any
	for _, step := range []struct {
		path string
		body object
	}{
		{"/products", object{"name": "thermo", "profile": object{"validity": "825d"}, "proofs": proofs}},
		{"/sites", object{"name": "hsinchu"}},
		{"/orders", object{"name": "po-1", "product": "thermo", "site": "hsinchu", "quantity": quantity, "state": "open"}},
	} {
		if err := admin.Do(ctx, "POST", step.path, step.body, nil); err != nil {
			i.t.Fatal(err)
		}
	}
	lin, err := admin.Hire(ctx, "lin", "site-operator", "hsinchu")
	if err != nil {
		i.t.Fatal(err)
	}
	defer lin.Close()
	m, err := lin.HandIn(ctx, "po-1", text)
	if err != nil || m.State != "loaded" || m.Fresh != int64(n) {
		i.t.Fatalf("manifest %+v: %v", m, err)
	}
}

func (i *installation) store() *store.Store {
	i.t.Helper()
	config, err := server.LoadConfig(filepath.Join(i.dir, server.ConfigFile))
	if err != nil {
		i.t.Fatal(err)
	}
	s, err := store.Open(context.Background(), store.Options{DSN: config.DSN()})
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { s.Close() })
	return s
}

// verifyLog demands a log without a finding.
func verifyLog(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := context.Background()
	err := s.Snapshot(ctx, func(src audit.Source) error {
		report, err := audit.Verify(ctx, src, audit.Options{})
		if err == nil && !report.OK() {
			t.Errorf("audit verify: %+v", report.Findings)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// eachDevice calls do with every device of the store, by ID.
func eachDevice(t *testing.T, s *store.Store, do func(*vetting.Device)) {
	t.Helper()
	for after := int64(0); ; {
		devices, err := s.Devices(context.Background(), vetting.DeviceFilter{}, vetting.Page{After: after, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range devices {
			do(d)
			after = d.ID
		}
		if len(devices) < 1000 {
			return
		}
	}
}

// turns counts, by device, the log's leaves of an act.
func turns(t *testing.T, s *store.Store, act string) map[int64]int {
	t.Helper()
	ctx, turns := context.Background(), map[int64]int{}
	head, err := s.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Leaves(ctx, 0, head.Size(), func(_ int64, body []byte) error {
		l, err := audit.ParseLeaf(body)
		if len(body) > audit.MaxLeaf {
			t.Errorf("a leaf is %d bytes long: it cannot be published", len(body))
		}
		for _, o := range l.Objects {
			if l.Act == act && o.Kind == audit.KindDevice {
				turns[o.ID]++
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return turns
}

// number is what the environment says in a variable, at least least, or else
// what a test does without.
func number(t *testing.T, variable string, least, without int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return without
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least {
		t.Fatalf("%s=%q is not a number from %d on", variable, s, least)
	}
	return n
}

func build(t *testing.T, n int) (devicesim.Factory, []*devicesim.Unit) {
	t.Helper()
	f := devicesim.Factory{Prefix: "SN-", Block: 1, Now: time.Now}
	units, err := f.Build(0, n)
	if err != nil {
		t.Fatal(err)
	}
	return f, units
}
