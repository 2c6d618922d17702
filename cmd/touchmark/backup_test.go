package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// backedUp is a server with a backup that was made while it ran: device one
// enrolled before, device two after it.
type backedUp struct {
	*world
	dsn, file string
	one, two  *device
}

func newBackedUp(t *testing.T, kind string, flags ...string) *backedUp {
	t.Helper()
	b := &backedUp{dsn: storetest.Database(t, kind), one: newDevice(t, "A-0001"), two: newDevice(t, "A-0002")}
	b.world = newWorldOn(t, b.dsn)
	b.handIn(t, b.one, b.two)
	if code := b.one.enrol(t, b.world); code != 200 {
		t.Fatalf("enrolment: %d", code)
	}
	to := t.TempDir()
	touchmark(t, append([]string{"backup", to, "--dir", b.dir}, flags...)...).want(t, 0, "signed checkpoint")
	found, err := filepath.Glob(filepath.Join(to, "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the backup made %v, %v", found, err)
	}
	b.file = found[0]
	if info, err := os.Stat(b.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup can be read by others: %v, %v", info.Mode(), err)
	}
	if code := b.two.enrol(t, b.world); code != 200 {
		t.Fatalf("enrolment: %d", code)
	}
	b.server.stop(t) // which signs the newest checkpoint
	return b
}

func (w *world) state(t *testing.T, d *device) vetting.DeviceState {
	t.Helper()
	return decodeAs[vetting.Device](t, w.admin(t, "device", "show", d.serial, "--json").want(t, 0).out).State
}

// The backup of one kind of database becomes a server on the other kind.
func TestBackupAndRestore(t *testing.T) {
	for i, kind := range storetest.Kinds(t) {
		t.Run(kind, func(t *testing.T) {
			b := newBackedUp(t, kind)
			touchmark(t, "restore", b.file, "--check").want(t, 0, "nothing is wrong", "the backup is whole")
			touchmark(t, "restore", b.file, b.dir).want(t, exitFailed, "is not empty")
			kinds := storetest.Kinds(t)
			other := storetest.Database(t, kinds[(i+1)%len(kinds)])
			dir := filepath.Join(t.TempDir(), "restored")
			touchmark(t, "restore", b.file, dir, "--database", other).want(t, 0, "nothing is wrong", "put the private keys into")
			for _, secret := range []string{"keys", "admin.key"} {
				if _, err := os.Stat(filepath.Join(dir, secret)); err == nil {
					t.Errorf("%s came with the backup unasked", secret)
				}
				copyTree(t, filepath.Join(b.dir, secret), filepath.Join(dir, secret))
			}
			w := &world{dir: dir, server: serve(t, dir)}
			if one, two := w.state(t, b.one), w.state(t, b.two); one != vetting.DeviceIssued || two != vetting.DeviceManufactured {
				t.Errorf("the devices are %s and %s", one, two)
			}
			if code := b.two.enrol(t, w); code != 200 {
				t.Errorf("the restored server answers the second device %d", code)
			}
			w.server.stop(t)
			touchmark(t, "audit", "verify", "--dir", dir).want(t, 0, "nothing is wrong")
			touchmark(t, "restore", b.file, filepath.Join(t.TempDir(), "again"), "--database", other).want(t, exitFailed, "the database is not empty")
		})
	}
}

func TestBackupWithKeys(t *testing.T) {
	b := newBackedUp(t, "sqlite", "--with-keys")
	dir := filepath.Join(t.TempDir(), "restored")
	touchmark(t, "restore", b.file, dir, "--database", "sqlite:touchmark.db").want(t, 0, "nothing is wrong")
	for _, f := range []string{"admin.key", "keys/device-ca.key", "keys/serial.key", "touchmark.yaml"} {
		if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", f, err)
		}
	}
	w := &world{dir: dir, server: serve(t, dir)}
	if state := w.state(t, b.one); state != vetting.DeviceIssued {
		t.Errorf("the device is %s", state)
	}
	touchmark(t, "backup", b.file, "--dir", dir).want(t, exitFailed, "overwrites nothing")
}

// A server does not start on a database that is older than what it signed,
// unless somebody says in the log that the rest is lost.
func TestOlderDatabase(t *testing.T) {
	for _, kind := range storetest.Kinds(t) {
		t.Run(kind, func(t *testing.T) {
			b := newBackedUp(t, kind)
			kept := filepath.Join(t.TempDir(), "checkpoint")
			copyTree(t, filepath.Join(b.dir, "log", "checkpoint"), kept)
			touchmark(t, "restore", b.file, "--dir", b.dir, "--database-only").want(t, exitFailed, "the database is not empty")
			storetest.Empty(t, b.dsn)
			touchmark(t, "restore", b.file, "--dir", b.dir, "--database-only", "--checkpoint", kept).want(t, exitFailed, "checkpoint", "no server opens")
			touchmark(t, "serve", "--dir", b.dir).want(t, exitFailed, "restore of this database was begun")
			touchmark(t, "serve", "--dir", b.dir, "--check").want(t, exitFailed, "restore of this database was begun")
			touchmark(t, "restore", b.file, "--dir", b.dir, "--database-only").want(t, 0, "nothing is wrong")
			refused := func() {
				t.Helper()
				touchmark(t, "serve", "--dir", b.dir).want(t, exitFailed, "rolled back", "audit accept-loss")
				touchmark(t, "serve", "--dir", b.dir, "--check").want(t, exitFailed, "rolled back")
			}
			refused()
			touchmark(t, "audit", "accept-loss", "--dir", b.dir).want(t, exitUsage, "note")
			touchmark(t, "audit", "accept-loss", "--dir", b.dir, "--note", "the disk died").want(t, exitUsage, "lost for good", "--yes")
			refused()
			touchmark(t, "audit", "accept-loss", "--dir", b.dir, "--note", "the disk died", "--yes").want(t, 0, "checkpoint.lost-")
			touchmark(t, "audit", "accept-loss", "--dir", b.dir, "--note", "again", "--yes").want(t, 0, "Nothing is lost")

			b.server = serve(t, b.dir)
			if code := b.two.enrol(t, b.world); code != 200 {
				t.Errorf("the second device is answered %d", code)
			}
			b.server.stop(t)
			touchmark(t, "audit", "show", "--dir", b.dir).want(t, 0, "log.accept-loss", "the disk died")
			touchmark(t, "audit", "verify", "--dir", b.dir).want(t, 0, "nothing is wrong")
			touchmark(t, "audit", "verify", "--dir", b.dir, "--checkpoint", kept).want(t, exitFailed, "checkpoint")
		})
	}
}

// Whatever happened to a backup, restore does not make a server of it.
func TestDamagedBackup(t *testing.T) {
	b := newBackedUp(t, "sqlite")
	whole, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 4
	other := bytes.Clone(whole)
	other[len(other)-6] ^= 4
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"something else":         {[]byte("hello, this is no backup at all"), "not a backup"},
		"cut off":                {whole[:len(whole)*2/3], "the backup "}, // is damaged; between two parts it "ends too early"
		"a bit flipped":          {flipped, "touchmark: "},                // what shows depends on where it was
		"a bit of its check sum": {other, "damaged"},
		"its end is missing":     {rewritten(t, whole, func(name string, data []byte) []byte { return without(name == "end.json", data) }), "cut off"},
		"a part is missing":      {rewritten(t, whole, func(name string, data []byte) []byte { return without(holds(name, data, "certificates"), data) }), "rows of table certificates"},
		"no certificates":        {rewritten(t, whole, emptied("certificates")), "object-gone"},
		"no leaves":              {rewritten(t, whole, emptied("leaves")), "log"},
		"a device is otherwise": {rewritten(t, whole, func(name string, data []byte) []byte {
			if holds(name, data, "devices") {
				return bytes.Replace(data, []byte(`,"issued",""`), []byte(`,"active",""`), 1)
			}
			return data
		}), "object-changed"},
		"an unknown table": {rewritten(t, whole, func(name string, data []byte) []byte {
			return bytes.Replace(data, []byte(`{"table":"sites"`), []byte(`{"table":"sites; DROP TABLE sites"`), 1)
		}), "does not have"},
		"another head": {rewritten(t, whole, func(name string, data []byte) []byte {
			if name != "backup.json" {
				return data
			}
			return bytes.Replace(data, []byte(`"leaves": `), []byte(`"leaves": 1`), 1)
		}), "was changed since"},
		"a newer form": {rewritten(t, whole, func(name string, data []byte) []byte {
			return bytes.Replace(data, []byte(`"touchmarkBackup": 1`), []byte(`"touchmarkBackup": 2`), 1)
		}), "newer Touchmark"},
	} {
		t.Run(name, func(t *testing.T) {
			file, dir := filepath.Join(t.TempDir(), "b"), filepath.Join(t.TempDir(), "d")
			if err := os.WriteFile(file, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			touchmark(t, "restore", file, dir, "--database", "sqlite:touchmark.db").want(t, exitFailed, c.want)
			if _, err := os.Stat(dir); err == nil {
				t.Error("it left a data directory")
			}
		})
	}
}

func holds(name string, data []byte, table string) bool {
	return strings.HasPrefix(name, "rows/") && bytes.HasPrefix(data, []byte(`{"table":"`+table+`"`))
}

func without(it bool, data []byte) []byte {
	if it {
		return nil
	}
	return data
}

// emptied takes all rows of a table away, and says so at the end.
func emptied(table string) func(string, []byte) []byte {
	return func(name string, data []byte) []byte {
		if holds(name, data, table) {
			return nil
		}
		if name != "end.json" {
			return data
		}
		var end struct {
			Rows map[string]int64 `json:"rows"`
		}
		if err := json.Unmarshal(data, &end); err != nil {
			panic(err)
		}
		delete(end.Rows, table)
		data, _ = json.Marshal(end)
		return data
	}
}

// rewritten is a backup with other parts; nil leaves one out.
func rewritten(t *testing.T, backup []byte, edit func(name string, data []byte) []byte) []byte {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(backup))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	in, out := tar.NewReader(gz), tar.NewWriter(zip)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if data = edit(h.Name, data); data == nil {
			continue
		}
		h.Size = int64(len(data))
		if err := out.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(out.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// copyTree copies a file or a directory of files.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
