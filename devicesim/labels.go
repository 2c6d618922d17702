package devicesim

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
)

// StickLabels gives units the enrolment codes of a table of labels, which has
// the columns code and serial: to each the one that names it, to the others
// those that name none, in turn.
func StickLabels(units []*Unit, table io.Reader) error {
	rows, err := csv.NewReader(table).ReadAll()
	if err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	if len(rows) == 0 {
		return errors.New("labels: the table is empty")
	}
	code, serial := slices.Index(rows[0], "code"), slices.Index(rows[0], "serial")
	if code < 0 || serial < 0 {
		return fmt.Errorf("labels: the columns are %q: want code and serial among them", rows[0])
	}
	own, free := map[string]string{}, []string(nil)
	for _, row := range rows[1:] {
		if row[serial] == "" {
			free = append(free, row[code])
		} else {
			own[row[serial]] = row[code]
		}
	}
	for _, u := range units {
		if u.Code = own[u.Serial]; u.Code != "" {
			continue
		}
		if len(free) == 0 {
			return fmt.Errorf("labels: there is none left for %s; the table has %d", u.Serial, len(rows)-1)
		}
		u.Code, free = free[0], free[1:]
	}
	return nil
}
