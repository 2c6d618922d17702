package licensing

import (
	"context"
	"encoding/hex"
	"strings"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Confirm keeps that chips of a site have their licences, and says of each why
// it cannot be, or nil. Confirming again changes nothing.
func (d *Desk) Confirm(ctx context.Context, act access.Act, site string, uids []string) ([]*vetting.LicenceRefusal, error) {
	out := make([]*vetting.LicenceRefusal, len(uids))
	var list [][]byte
	var at []int
	for i, text := range uids {
		uid, err := ParseUID(text)
		if err != nil {
			out[i] = vetting.RefuseLicence(vetting.RefusedUID, "%v", err)
			continue
		}
		list, at = append(list, uid), append(at, i)
	}
	if len(list) == 0 {
		return out, nil
	}
	refused, err := d.Ledger.ConfirmLicences(ctx, act, site, list)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for i, r := range refused {
		if out[at[i]] = r; r == nil {
			counts["programmed"]++
		}
	}
	d.count(counts)
	return out, nil
}

// ParseUID reads a UID of any type, in hexadecimal with or without separators.
func ParseUID(text string) ([]byte, error) {
	uid, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "", " ", "").Replace(text))
	if err != nil || len(uid) == 0 {
		return nil, vetting.Errorf(vetting.Invalid, "the UID %q is not hexadecimal", text)
	}
	return uid, nil
}
