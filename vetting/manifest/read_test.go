package manifest

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// got is one record with its places.
type got struct {
	Row, Line int64
	Record    vetting.Record
}

func readAll(text string, format vetting.ManifestFormat, rules Rules) (out []got, err error) {
	err = Read(iotest.OneByteReader(strings.NewReader(text)), format, rules, func(row, line int64, rec vetting.Record) error {
		out = append(out, got{row, line, rec})
		return nil
	})
	return out, err
}

// findings gives the errors as "line: text".
func findings(t *testing.T, err error) (out []string) {
	t.Helper()
	var le *LineErrors
	if err == nil {
		return nil
	}
	if !errors.As(err, &le) {
		t.Fatalf("error %v is not LineErrors", err)
	}
	if vetting.ProblemOf(err) != vetting.Invalid {
		t.Fatalf("problem %v, want Invalid", vetting.ProblemOf(err))
	}
	for _, l := range le.List {
		out = append(out, fmt.Sprintf("%d: %s", l.Line, l.Text))
	}
	return out
}

// match fails unless every finding begins with the wanted line and contains
// the wanted text.
func match(t *testing.T, have, want []string) {
	t.Helper()
	if len(have) != len(want) {
		t.Fatalf("findings:\n%s\nwant %d", strings.Join(have, "\n"), len(want))
	}
	for i := range want {
		line, text, _ := strings.Cut(want[i], ": ")
		if !strings.HasPrefix(have[i], line+": ") || !strings.Contains(have[i], text) {
			t.Errorf("finding %q, want %q", have[i], want[i])
		}
	}
}

func TestBothFormatsGiveTheSameRecords(t *testing.T) {
	anna := newPerson(t, "unit", newKey(t), nil)
	key := vetting.KeyFingerprint(anna.cert.RawSubjectPublicKeyInfo)
	certPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: anna.cert.Raw}))
	keyPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: anna.cert.RawSubjectPublicKeyInfo}))
	records := []map[string]string{
		{"serial": "A-1", "mac": "00-11-22-AA-BB-CC", "uid": "DEADBEEF", "bootstrapKey": strings.ToUpper(key.String()), "order": "PO-1", "product": "lamp"},
		{"serial": "A-2", "bootstrapCertificate": certPEM, "ekHash": strings.Repeat("AB", 32), "hardwareRevision": "rev \"C\", late", "firmware": "1.4.2", "line": "L1"},
		{"serial": "A-3", "bootstrapCertificate": base64.StdEncoding.EncodeToString(anna.cert.Raw), "bootstrapKey": key.String(), "rig": "R7"},
		{"serial": "A-4", "bootstrapPublicKey": keyPEM, "time": "2026-11-20T23:59:59.123456789+08:00", "tests": `{"rf": [1, 2.5, "ok, \"fine\""], "n": null}`},
		{"serial": "A-5", "tests": "null"},
	}
	want := []vetting.Record{
		{Identity: vetting.Identity{Serial: "A-1", MAC: "00:11:22:aa:bb:cc", UID: "deadbeef"}, BootstrapKey: key},
		{Identity: vetting.Identity{Serial: "A-2"}, BootstrapKey: key, Made: vetting.Manufacturing{EKHash: strings.Repeat("ab", 32), HardwareRevision: `rev "C", late`, Firmware: "1.4.2", Line: "L1"}},
		{Identity: vetting.Identity{Serial: "A-3"}, BootstrapKey: key, Made: vetting.Manufacturing{Rig: "R7"}},
		{Identity: vetting.Identity{Serial: "A-4"}, BootstrapKey: key, Made: vetting.Manufacturing{
			Time: time.Date(2026, 11, 20, 15, 59, 59, 123456000, time.UTC), Tests: json.RawMessage(`{"rf":[1,2.5,"ok, \"fine\""],"n":null}`)}},
		{Identity: vetting.Identity{Serial: "A-5"}},
	}
	var jsonl, table bytes.Buffer
	w := csv.NewWriter(&table)
	if err := w.Write(columns[:]); err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		object := map[string]any{}
		fields := make([]string, len(columns))
		for name, v := range r {
			object[name], fields[column(name)] = v, v
			if name == "tests" {
				object[name] = json.RawMessage(v)
			}
		}
		if err := json.NewEncoder(&jsonl).Encode(object); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(fields); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for name, in := range map[string]struct {
		format vetting.ManifestFormat
		text   string
	}{
		"jsonl":               {vetting.FormatJSONLines, jsonl.String()},
		"jsonl with CR":       {vetting.FormatJSONLines, crlf(jsonl.String())},
		"jsonl with BOM":      {vetting.FormatJSONLines, "\ufeff" + jsonl.String()},
		"jsonl, no last LF":   {vetting.FormatJSONLines, strings.TrimSuffix(jsonl.String(), "\n")},
		"jsonl, blank lines":  {vetting.FormatJSONLines, "\n \t\n" + jsonl.String() + "\n\n"},
		"csv":                 {vetting.FormatCSV, table.String()},
		"csv with CR":         {vetting.FormatCSV, crlf(table.String())},
		"csv with BOM":        {vetting.FormatCSV, "\ufeff" + table.String()},
		"csv, quoted and BOM": {vetting.FormatCSV, "\ufeff\"serial\"" + strings.TrimPrefix(table.String(), "serial")},
		"csv, no last LF":     {vetting.FormatCSV, strings.TrimSuffix(table.String(), "\n")},
		"csv, blank lines":    {vetting.FormatCSV, table.String() + "\n\n"},
	} {
		out, err := readAll(in.text, in.format, Rules{Order: "PO-1", Product: "lamp"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, g := range out {
			if g.Row != int64(i)+1 || i >= len(want) || !reflect.DeepEqual(g.Record, want[i]) {
				t.Errorf("%s: row %d is %+v\nwant %+v", name, g.Row, g.Record, want[min(i, len(want)-1)])
			}
		}
		if len(out) != len(want) {
			t.Errorf("%s: %d records, want %d", name, len(out), len(want))
		}
	}
}

func TestBrokenJSONLinesAreAllListed(t *testing.T) {
	anna := newPerson(t, "unit", newKey(t), nil)
	certificate := base64.StdEncoding.EncodeToString(anna.cert.Raw)
	deep := strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)
	lines := []struct{ text, want string }{
		{`{"serial":"GOOD-1"}`, ""},
		{`{"serial":"X"`, "not a JSON value"},
		{`["X"]`, "not a JSON object"},
		{`"X"`, "not a JSON object"},
		{`{"serial":"X"} {"serial":"Y"}`, "not a JSON value"},
		{`{"serial":"X","seriel":"Y"}`, `did you mean "serial"`},
		{`{"serial":"X","Bootstrapkey":"Y"}`, `did you mean "bootstrapKey"`},
		{`{"serial":"X","colour":"red"}`, `unknown field "colour"; known are serial`},
		{`{"serial":"X","colour":["red"]}`, `unknown field "colour"`},
		{`{"serial":"X","serial":"X"}`, "twice"},
		{`{"serial":17}`, "must be a JSON string, not 17"},
		{`{"serial":null}`, "must be a JSON string"},
		{`{}`, "no serial"},
		{`{"serial":""}`, "no serial"},
		{`{"serial":"A B"}`, "character ' '"},
		{`{"serial":"` + strings.Repeat("X", 65) + `"}`, "65 bytes"},
		{`{"serial":"X","mac":"00:11:22"}`, "mac"},
		{`{"serial":"X","bootstrapKey":"abcd"}`, "bootstrapKey"},
		{`{"serial":"X","bootstrapKey":"` + strings.Repeat("0", 64) + `"}`, "all zeros"},
		{`{"serial":"X","bootstrapCertificate":"!"}`, "neither PEM nor base64"},
		{`{"serial":"X","bootstrapCertificate":"AAAA"}`, "not an X.509 certificate"},
		{`{"serial":"X","bootstrapPublicKey":"AAAA"}`, "not PEM"},
		{`{"serial":"X","bootstrapKey":"` + strings.Repeat("1", 64) + `","bootstrapCertificate":"` + certificate + `"}`, "different keys"},
		{`{"serial":"X","ekHash":"12"}`, "ekHash"},
		{`{"serial":"X","line":"a\u0007b"}`, "control character"},
		{`{"serial":"X","time":"yesterday"}`, "RFC 3339"},
		{`{"serial":"X","time":"1969-12-31T23:59:59Z"}`, "out of range"},
		{`{"serial":"X","tests":"` + strings.Repeat("t", vetting.MaxRecordTests) + `"}`, "tests hold"},
		{`{"serial":"X","tests":` + deep + `}`, "nested"},
		{`{"serial":"X","order":"PO-2"}`, `for order "PO-2", but the manifest is handed in for order "PO-1"`},
		{`{"serial":"X","product":"fridge"}`, `product "fridge"`},
		{`{"serial":"X"}` + strings.Repeat(" ", MaxLine), "longer than"},
		{`{"serial":"X` + "\xff" + `"}`, "not UTF-8"},
		{`{"serial":"X` + "\x00" + `"}`, "NUL"},
		{`{"serial":"` + strings.Repeat("é", 400) + `"}`, "800 bytes"},
		{`{"serial":"GOOD-2"}`, ""},
	}
	var text strings.Builder
	var want []string
	for i, l := range lines {
		text.WriteString(l.text + "\n")
		if l.want != "" {
			want = append(want, fmt.Sprintf("%d: %s", i+1, l.want))
		}
	}
	out, err := readAll(text.String(), vetting.FormatJSONLines, Rules{Order: "PO-1", Product: "lamp"})
	match(t, findings(t, err), want)
	if len(out) != 2 || out[1].Row != int64(len(lines)) {
		t.Errorf("good records: %+v", out)
	}
}

func TestBrokenCSVLinesAreAllListed(t *testing.T) {
	text := "serial,line,tests\n" +
		"GOOD-1,L1,\n" +
		"X,L1\n" + // 3
		"X,L1,,\n" +
		`X,L"1,` + "\n" + `Y,",` + "\n" + // 5: an odd quotation mark draws the next line in
		`X,"L1"x,` + "\n" + // 7
		`X,L1,{"a":1}` + "\n" +
		`X,L1,"{""a"":}"` + "\n" +
		`GOOD-2,"L` + "\n" + `1",` + "\n" + // 10: text with a line end
		"\xff,,\n" + // 12
		",L1,\n" +
		"GOOD-3,\"a\"\"b\",\"{\"\"a\"\":\n[1]}\"\n" + // 14
		`X,"never closed` + "\n" + "GOOD-4,,\n"
	out, err := readAll(text, vetting.FormatCSV, Rules{})
	match(t, findings(t, err), []string{
		"3: 2 fields, the header 3", "4: 4 fields", "5: quotation mark", "7: goes on after", "8: quotation mark", "9: tests is not JSON",
		"10: control character", "12: not UTF-8", "13: no serial", "16: not closed before the end",
	})
	if len(out) != 2 || out[1].Record.Made.Line != `a"b` || string(out[1].Record.Made.Tests) != `{"a":[1]}` || out[1].Line != 14 {
		t.Errorf("good records: %+v", out)
	}
}

func TestCSVHeaders(t *testing.T) {
	for header, want := range map[string][]string{
		"serial,makk,uid,Uid,serial": {`1: unknown field "makk"; did you mean "mac"`, `1: unknown field "Uid"; did you mean "uid"`, `1: names "serial" twice`},
		"mac,uid":                    {`1: does not name the column "serial"`},
		`serial,"mac`:                {"1: the header cannot be read"},
		`serial,m"ac`:                {"1: the header cannot be read"},
		"serial":                     {"1: lists no record"},
		"":                           {"1: lists no record"},
		"\xff\xfes\x00e\x00":         {"1: UTF-16"},
	} {
		_, err := readAll(header+"\n", vetting.FormatCSV, Rules{})
		match(t, findings(t, err), want)
	}
}

func TestAnUnclosedQuotationIsBounded(t *testing.T) {
	text := "serial,line\nA-1,\"open\n" + strings.Repeat("A-2,x\n", 2*MaxLine/6) + "A-3,x\n"
	out, err := readAll(text, vetting.FormatCSV, Rules{})
	match(t, findings(t, err), []string{"2: not closed within"})
	if n := len(out); n == 0 || out[n-1].Record.Serial != "A-3" {
		t.Fatalf("the reader did not go on after the quotation: %d records", n)
	}
}

func TestRulesOfTheOrder(t *testing.T) {
	order := &vetting.Order{Name: "PO-1", Product: "lamp", Identifiers: vetting.Identifiers{Serials: []string{"A-1..A-5"}, MACs: []string{"001122334455"}}}
	rules, err := RulesFor(order, &vetting.Product{Name: "lamp", Proofs: []vetting.Proof{vetting.ProofBootstrapKey}})
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Repeat("1", 64)
	_, err = readAll(fmt.Sprintf(`{"serial":"A-3","mac":"00-11-22-33-44-55","bootstrapKey":"%[1]s"}
{"serial":"A-6","mac":"00-11-22-33-44-55","bootstrapKey":"%[1]s"}
{"serial":"A-4","mac":"00-11-22-33-44-56","bootstrapKey":"%[1]s"}
{"serial":"A-4","bootstrapKey":"%[1]s"}
{"serial":"A-4","mac":"00-11-22-33-44-55"}
`, key), vetting.FormatJSONLines, rules)
	match(t, findings(t, err), []string{`2: serial "A-6" is not among`, `3: mac "00:11:22:33:44:56" is not among`, `4: mac "" is not among`, "5: no bootstrap key"})
	order.Identifiers.Serials = []string{"B..A"}
	if _, err := RulesFor(order, &vetting.Product{}); err == nil {
		t.Error("rules from bad identifiers")
	}
}

// A record needs its device's key only where nothing else lets a device in.
func TestWhoNeedsAKey(t *testing.T) {
	for _, proof := range vetting.FirstProofs {
		p := &vetting.Product{Name: "lamp", Proofs: []vetting.Proof{proof}}
		for _, needs := range []bool{proof == vetting.ProofBootstrapKey, false} {
			rules, err := RulesFor(&vetting.Order{Name: "PO-1", Product: "lamp"}, p)
			if err != nil || rules.NeedKey != needs {
				t.Errorf("%v: a key is needed: %v, %v", p.Proofs, rules.NeedKey, err)
			}
			p.Proofs = []vetting.Proof{vetting.ProofBootstrapKey, vetting.ProofCode}
		}
	}
}

func TestTheListIsBounded(t *testing.T) {
	n := MaxListed + 5
	_, err := readAll(strings.Repeat("x\n", n), vetting.FormatJSONLines, Rules{})
	var le *LineErrors
	if !errors.As(err, &le) || len(le.List) != MaxListed || le.Total != int64(n) {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("and %d more", n-10)) || len(err.Error()) > 20*maxText {
		t.Errorf("text %q", err)
	}
}

func TestRecordsAreCounted(t *testing.T) {
	out, err := readAll(string(file(6)), vetting.FormatJSONLines, Rules{maxRecords: 5})
	match(t, findings(t, err), []string{"6: more than 5 records"})
	if len(out) != 5 {
		t.Errorf("%d records", len(out))
	}
	if _, err := readAll(string(file(5)), vetting.FormatJSONLines, Rules{maxRecords: 5}); err != nil {
		t.Error(err)
	}
}

func TestFailuresAreNotLineErrors(t *testing.T) {
	for _, format := range []vetting.ManifestFormat{vetting.FormatJSONLines, vetting.FormatCSV} {
		r := io.MultiReader(strings.NewReader("serial\nA-1\n"), iotest.ErrReader(errDisk))
		err := Read(r, format, Rules{}, func(_, _ int64, _ vetting.Record) error { return nil })
		var le *LineErrors
		if !errors.Is(err, errDisk) || errors.As(err, &le) {
			t.Errorf("%s: %v", format, err)
		}
	}
	stop := errors.New("stop")
	if err := Read(bytes.NewReader(file(3)), vetting.FormatJSONLines, Rules{}, func(_, _ int64, _ vetting.Record) error { return stop }); err != stop {
		t.Error(err)
	}
	if err := Read(bytes.NewReader(nil), "xlsx", Rules{}, nil); vetting.ProblemOf(err) != vetting.Invalid {
		t.Error(err)
	}
}

func TestWriterRoundTrip(t *testing.T) {
	records := []vetting.Record{
		{Identity: vetting.Identity{Serial: "A-1"}},
		{Identity: vetting.Identity{Serial: "A-2", MAC: "00:11:22:33:44:55", UID: "ab"}, BootstrapKey: vetting.Fingerprint{1},
			Made: vetting.Manufacturing{EKHash: strings.Repeat("ab", 32), HardwareRevision: "<é>", Line: "L", Rig: "R", Time: now, Tests: json.RawMessage(`[1,"<"]`)}},
	}
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Write(vetting.Record{}); err == nil {
		t.Error("wrote a record that nobody can read")
	}
	out, err := readAll(b.String(), vetting.FormatJSONLines, Rules{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if !reflect.DeepEqual(out[i].Record, records[i]) {
			t.Errorf("wrote %+v, read %+v", records[i], out[i].Record)
		}
	}
}
