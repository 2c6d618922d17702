package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

// TestPlannerGuide does what docs/guides/planner.md says, word for word and
// in order, but for the numbers of codes and registrations, which are not the
// guide's to know.
func TestPlannerGuide(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	dir := t.TempDir()
	before, after, found := strings.Cut(read(t, "guides/planner.md"), "this `gateway.json`:\n\n```\n")
	if !found {
		t.Fatal("the guide shows no gateway.json")
	}
	profile, _, _ := strings.Cut(after, "```")
	if err := os.WriteFile(filepath.Join(dir, "gateway.json"), []byte(profile), 0o600); err != nil || before == "" {
		t.Fatal(err)
	}
	maker := vendoridtest.New(t, "Chips")
	for file, text := range map[string]string{"microchip-root.pem": vendoridtest.PEM(maker.Root), "example-idevid.pem": vendoridtest.PEM(maker.Issuing), "example.crl": maker.CRL(), "example-ek-roots.pem": vendoridtest.PEM(maker.Root)} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.cli(t, "operator", "add", "berta", "--role", "planner", "--out", filepath.Join(dir, "berta"))

	p := planning{world: w, dir: dir, path: shim(t, map[string]string{"touchmark": `exec "` + bin + `/touchmark" "$@"`})}
	for _, block := range blocks(t, "guides/planner.md") {
		for line := range strings.Lines(block) {
			p.do(t, strings.TrimSpace(line))
		}
	}
	if p.tried < 50 {
		t.Errorf("the guide has %d commands only: the test does not see it", p.tried)
	}
	for id, admit := range map[string]bool{p.first: true, p.second: false} {
		decided := field[struct{ Admit *bool }](t, w.cli(t, "registration", "show", id, "--json"), "decision")
		if decided.Admit == nil || *decided.Admit != admit {
			t.Errorf("registration %s was not decided as the guide says", id)
		}
	}
}

// planning follows the planner's guide.
type planning struct {
	world         *world
	dir, path     string
	tried         int
	first, second string // registrations that wait for a person
}

func (p *planning) do(t *testing.T, line string) {
	t.Helper()
	args := strings.Fields(line)
	if len(args) < 3 || args[0] != "touchmark" {
		return
	}
	switch args[1] + " " + args[2] {
	case "code create":
		p.deliver(t)
	case "code revoke":
		line = p.code(t, args[3:])
	case "registration show", "registration decide":
		p.wait(t)
		line = strings.NewReplacer("4711", p.first, "4712", p.second).Replace(line)
	}
	p.tried++
	if out, err := script(t, p.dir, p.path, line, "TOUCHMARK_DIR="+p.world.dir, "TOUCHMARK_SERVER="+p.world.api); err != nil {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
}

// deliver has the site hand in the records that the guide speaks of, once.
func (p *planning) deliver(t *testing.T) {
	t.Helper()
	lin := filepath.Join(p.dir, "lin")
	if _, err := os.Stat(lin); err == nil {
		return
	}
	p.world.cli(t, "operator", "add", "lin", "--role", "site-operator", "--site", "penang", "--out", lin)
	records := "serial,mac,bootstrapKey\n"
	for i, serial := range []string{"A-0001", "A-1000"} {
		records += fmt.Sprintf("%s,02:00:5e:10:00:%02x,%064x\n", serial, i+1, i+1)
	}
	p.world.as(t, lin, "manifest", "upload", "PO-4711", write(t, "units.csv", records), "--sign")
}

// code names codes that there are in a command that revokes some.
func (p *planning) code(t *testing.T, args []string) string {
	t.Helper()
	items := field[[]struct{ ID, Batch int64 }](t, p.world.cli(t, "code", "list", "--order", "PO-4711", "--state", "unused", "--json"), "items")
	if len(items) == 0 {
		t.Fatal("no code of PO-4711 is unused")
	}
	if args[0] == "--batch" {
		return "touchmark code revoke --batch " + strconv.FormatInt(items[0].Batch, 10)
	}
	return "touchmark code revoke " + strconv.FormatInt(items[0].ID, 10)
}

// wait has two devices ask whose order is a draft, once.
func (p *planning) wait(t *testing.T) {
	t.Helper()
	if p.first != "" {
		return
	}
	w, rig, lin := p.world, filepath.Join(p.dir, "rig-7"), filepath.Join(p.dir, "lin")
	w.cli(t, "operator", "add", "rig-7", "--role", "rig", "--site", "penang", "--out", rig)
	w.cli(t, "product", "create", "radio", "--proof", "rig")
	w.cli(t, "order", "create", "PO-1", "--product", "radio", "--site", "penang", "--quantity", "2")
	w.as(t, lin, "manifest", "upload", "PO-1", write(t, "radios.csv", "serial,mac\nR-1,02:00:5e:10:01:01\nR-2,02:00:5e:10:01:02\n"), "--sign")
	var ids [2]string
	for i, serial := range []string{"R-1", "R-2"} {
		answer := w.register(t, rig, "rig-7", serial, csr(t, serial))
		if field[string](t, answer, "verdict") != "held" {
			t.Fatalf("%s was answered %s", serial, answer)
		}
		ids[i] = fmt.Sprint(field[int](t, answer, "registration"))
	}
	p.first, p.second = ids[0], ids[1]
}
