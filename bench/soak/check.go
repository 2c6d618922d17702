package soak

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	_ "github.com/touchmark/touchmark/internal/store" // the driver "sqlite"
)

// open opens the database that the server works in.
func (s *soak) open() (*sql.DB, error) {
	if s.server.file != "" {
		return sql.Open("sqlite", "file:"+(&url.URL{Path: s.server.file}).EscapedPath()+"?_pragma=busy_timeout(10000)")
	}
	return sql.Open("pgx", s.Database)
}

// found is what the database holds.
type found struct {
	certificates, valid int64
	orders              int
	issued              int64
}

// compare holds the database against what the devices were told.
func (l *ledger) compare(ctx context.Context, db *sql.DB) (f found, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f, errors.Join(l.compareOrders(ctx, db, &f), l.compareCertificates(ctx, db, &f), oneEach(ctx, db))
}

func (l *ledger) compareOrders(ctx context.Context, db *sql.DB, f *found) error {
	rows, err := db.QueryContext(ctx, `SELECT name, issued FROM orders`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var errs []error
	for rows.Next() {
		var name string
		var issued int64
		if err := rows.Scan(&name, &issued); err != nil {
			return err
		}
		f.orders++
		f.issued += issued
		o := l.orders[name]
		if o == nil {
			errs = append(errs, fmt.Errorf("nobody ordered %s", name))
		} else if due := min(o.quantity, o.came); issued != due || o.admitted != due {
			errs = append(errs, fmt.Errorf("order %s of %d, for which %d honest units came: %d were admitted, and it says that it issued %d",
				name, o.quantity, o.came, o.admitted, issued))
		}
	}
	return errors.Join(append(errs, rows.Err())...)
}

// compareCertificates looks for each certificate that a device was answered,
// and whether those that are valid are those that devices hold.
func (l *ledger) compareCertificates(ctx context.Context, db *sql.DB, f *found) error {
	rows, err := db.QueryContext(ctx, `SELECT serial, state FROM certificates`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var seen, unheld, lost int64
	for rows.Next() {
		var serial []byte
		var state string
		if err := rows.Scan(&serial, &state); err != nil {
			return err
		}
		f.certificates++
		held, answered := l.answered[strings.TrimLeft(string(serial), "\x00")]
		if answered {
			seen++
		}
		switch valid := state == "valid"; {
		case valid && !held:
			unheld++
		case !valid && held:
			lost++
		case valid:
			f.valid++
		}
	}
	errs := []error{rows.Err()}
	for _, x := range []struct {
		n    int64
		what string
	}{
		{int64(len(l.answered)) - seen, "certificates were answered to devices and are not in the database"},
		{unheld, "certificates are valid that no device holds"},
		{lost, "certificates that devices hold are not valid"},
	} {
		if x.n != 0 {
			errs = append(errs, fmt.Errorf("%d %s", x.n, x.what))
		}
	}
	return errors.Join(errs...)
}

// oneEach looks for devices with a second valid certificate.
func oneEach(ctx context.Context, db *sql.DB) error {
	var n int64
	err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT device_id FROM certificates WHERE state = 'valid' GROUP BY device_id HAVING COUNT(*) > 1) twice`).Scan(&n)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d devices have more than one valid certificate", n)
	}
	return err
}
