package soak

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCompare: what the database says otherwise than the devices were told
// is found.
func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		change string // of the database
		want   string // in the error
	}{
		"nothing":               {"", ""},
		"one too many issued":   {`UPDATE orders SET issued = 3`, "order PO of 2"},
		"one too few issued":    {`UPDATE orders SET issued = 1`, "order PO of 2"},
		"an order of nobody's":  {`INSERT INTO orders VALUES ('PO-2', 0)`, "nobody ordered PO-2"},
		"a lost certificate":    {`DELETE FROM certificates WHERE serial = X'03'`, "1 certificates were answered"},
		"a certificate too few": {`UPDATE certificates SET state = 'superseded' WHERE serial = X'02'`, "1 certificates that devices hold are not valid"},
		"a second valid one":    {`UPDATE certificates SET state = 'valid' WHERE serial = X'03'`, "1 devices have more than one valid certificate"},
		"one that nobody holds": {`INSERT INTO certificates VALUES (9, X'09', 'valid')`, "1 certificates are valid that no device holds"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "db"))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for _, q := range []string{
				`CREATE TABLE orders (name, issued)`, `CREATE TABLE certificates (device_id, serial, state)`,
				`INSERT INTO orders VALUES ('PO', 2)`,
				`INSERT INTO certificates VALUES (1, X'0001', 'valid'), (2, X'02', 'valid'), (2, X'03', 'superseded')`,
				c.change,
			} {
				if _, err := db.Exec(q); err != nil {
					t.Fatal(err)
				}
			}
			l := newLedger()
			l.expect(&order{name: "PO", quantity: 2, came: 3, admitted: 2})
			l.answered = map[string]bool{"\x01": true, "\x02": true, "\x03": false}
			_, err = l.compare(t.Context(), db)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestFlatness: growth from process to process is found, and growth within
// one is told.
func TestFlatness(t *testing.T) {
	lives := func(n int, resident, files func(life, i int) int64) *samples {
		s := &samples{life: 180 * time.Second}
		for life := range n {
			for i := range 18 {
				age := time.Duration(i) * 10 * time.Second
				s.list = append(s.list, sample{at: time.Duration(life)*s.life + age, age: age, life: life, resident: resident(life, i) << 20, files: files(life, i)})
			}
		}
		return s
	}
	still := func(int, int) int64 { return 100 }
	grows := func(life, _ int) int64 { return int64(60 + 10*life) }
	for name, c := range map[string]struct {
		s    *samples
		want string
	}{
		"flat":             {lives(9, still, still), ""},
		"memory":           {lives(9, grows, still), "memory grew"},
		"files":            {lives(9, still, grows), "open files grew"},
		"too few to judge": {lives(5, grows, still), ""},
		"too much":         {lives(2, func(int, int) int64 { return 201 }, still), "took 201 MB"},
	} {
		err := c.s.err()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// 10 MB from process to process are 200 an hour; 1 MB from sample to sample 360.
	f := lives(9, grows, still).flatness(lives(9, grows, still).plateaus())
	if f.across < 199 || f.across > 201 || f.within != 0 {
		t.Errorf("slopes %v and %v", f.across, f.within)
	}
	within := lives(9, func(_, i int) int64 { return int64(50 + i) }, still)
	if f := within.flatness(within.plateaus()); f.within < 359 || f.within > 361 || f.across > 1e-6 {
		t.Errorf("slopes %v and %v", f.across, f.within)
	}
}
