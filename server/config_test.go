package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const minimal = "audit: {origin: touchmark.test/audit}\n"

func TestSampleIsReadBack(t *testing.T) {
	want := Default()
	want.Audit.Origin = "touchmark.test/audit"
	want.Names = []string{"touchmark.test", "192.0.2.1", "2001:db8::1"}
	want.Keys = map[string]string{"device-ca": "pkcs11:token=t;object=d", "log": `file:/a "b"`}
	want.EST.Listen = ":443"
	want.API.MaxConnections = 7
	want.API.RequestTimeout = Duration(36 * time.Hour)
	want.Log.Level = slog.LevelDebug
	got, err := ParseConfig("sample", []byte(Sample(want)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back as\n%+v\nwant\n%+v", got, want)
	}
}

// With every "#key: value" turned on, the sample sets each default again.
func TestSampleShowsTheDefaults(t *testing.T) {
	want := Default()
	want.Audit.Origin = "touchmark.test/audit"
	var on []string
	commented := 0
	for line := range strings.SplitSeq(Sample(want), "\n") {
		bare := strings.TrimLeft(line, " ")
		if strings.HasPrefix(bare, "#") && !strings.HasPrefix(bare, "# ") {
			line = strings.Replace(line, "#", "", 1)
			commented++
		}
		on = append(on, line)
	}
	got, err := ParseConfig("sample", []byte(strings.Join(on, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) || commented < 20 {
		t.Errorf("%d defaults shown, read back as %+v", commented, got)
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	var check func(reflect.Type)
	w := sampleWriter{docs: fieldDocs()}
	check = func(typ reflect.Type) {
		for f := range fieldsOf(typ) {
			if w.doc(typ, f) == "" {
				t.Errorf("%s.%s has no comment: it is the manual", typ.Name(), f.Name)
			}
			if f.Type.Kind() == reflect.Struct {
				check(f.Type)
			}
		}
	}
	check(reflect.TypeFor[Config]())
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", minimal + "databse: x\n", `c.yaml:2: unknown key "databse"; did you mean "database"?`},
		{"a tag without a value", minimal + "keys: !x #\n", `c.yaml:2: the YAML tag "!x": tags are not used here, take it out`},
		{"unknown nested key", minimal + "est:\n  listen: :1\n  max_conections: 3\n", `c.yaml:4: unknown key "est.max_conections"; did you mean "max_connections"?`},
		{"unknown and unlike", minimal + "zzzzzzzzzzzz: 1\n", "`touchmark config` lists the known ones"},
		{"two at once", "nmaes: []\naudti: {}\n", `c.yaml:2: unknown key "audti"; did you mean "audit"?`},
		{"a key twice", minimal + "stop: 1s\nstop: 2s\n", "c.yaml:3"},
		{"bad duration", minimal + "stop: soon\n", `"soon" is no duration`},
		{"bad size", minimal + "api: {max_manifest: 3MB}\n", `"3MB" is no size`},
		{"bad level", minimal + "log: {level: loud}\n", "loud"},
		{"wrong type", minimal + "names: {a: b}\n", "c.yaml:2"},
		{"not YAML", "a: [\n", "c.yaml:"},
		{"two documents", minimal + "---\nstop: 1s\n", "2 YAML documents"},
		{"no origin", "stop: 1s\n", "audit.origin"},
		{"origin with a scheme", "audit: {origin: https://x}\n", "audit.origin"},
		{"host with a port", minimal + "names: ['a:1']\n", "DNS name"},
		{"no names", minimal + "names: []\n", "names is empty"},
		{"database of another kind", minimal + "database: mysql://x\n", `kind "mysql"`},
		{"listen without port", minimal + "est: {listen: localhost}\n", "est.listen"},
		{"no connections", minimal + "api: {max_connections: 0}\n", "api.max_connections"},
		{"no time", minimal + "api: {idle_timeout: 0s}\n", "api.idle_timeout"},
		{"foreign key name", minimal + "keys: {root: 'file:x'}\n", `"root" is no key of a server`},
		{"key without scheme", minimal + "keys: {log: x}\n", "no URI"},
		{"log format", minimal + "log: {format: xml}\n", "log.format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseConfig("c.yaml", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// A password in the address must not be repeated in an error.
func TestErrorsKeepTheDatabaseToThemselves(t *testing.T) {
	_, err := ParseConfig("c.yaml", []byte(minimal+"database: postgers://u:hush@h/n\n"))
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("error %v", err)
	}
}

func TestEmptySectionKeepsDefaults(t *testing.T) {
	got, err := ParseConfig("c.yaml", []byte(minimal+"est:\napi:\n  # nothing\nlog:\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.EST, Default().EST) || got.Log != Default().Log {
		t.Errorf("got %+v", got)
	}
}

func TestLoadConfigResolvesPaths(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ConfigFile)
	if err := os.WriteFile(path, []byte(minimal+"dir: data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "sqlite:" + filepath.Join(dir, "data", "touchmark.db"); c.DSN() != want {
		t.Errorf("DSN %q, want %q", c.DSN(), want)
	}
	if _, err := LoadConfig(path + "x"); err == nil || !strings.Contains(err.Error(), "touchmark init") {
		t.Errorf("missing file: %v", err)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "1d12h": 36 * time.Hour, "250ms": 250 * time.Millisecond,
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("%q: %v, %v", text, time.Duration(d), err)
		}
		var again Duration
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			t.Errorf("%q came back from %q as %v, %v", text, d.String(), again, err)
		}
	}
	for _, text := range []string{"", "5", "-1s", "1d-1h", "d", "-1d", "1.5d", "200000d", "106751d24h", "1h2d", "1w"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %v", text, d)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "512": 512, "512B": 512, "64KiB": 64 << 10, "16 MiB": 16 << 20, "4GiB": 4 << 30} {
		var s, again Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v", text, s, err)
		}
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("%q came back from %q as %v, %v", text, s.String(), again, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "9999999999GiB", "1MB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, s)
		}
	}
}

// FuzzConfig: whatever is read passes Check, and is read the same again from
// the sample that is written of it.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(Sample(Default())))
	f.Add([]byte(minimal + "keys: {log: 'file:a b'}\nnames: [x]\nlog: {level: debug+2}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig("f", text)
		if err != nil {
			return
		}
		if err := c.Check(); err != nil {
			t.Fatalf("accepted, but: %v", err)
		}
		again, err := ParseConfig("g", []byte(Sample(c)))
		if err != nil {
			t.Fatalf("its own sample is refused: %v\n%s", err, Sample(c))
		}
		if Sample(again) != Sample(c) {
			t.Fatalf("came back different:\n%s\nfrom\n%s", Sample(again), Sample(c))
		}
	})
}
