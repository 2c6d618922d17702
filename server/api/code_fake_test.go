package api_test

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

func (m *memory) Codes(_ context.Context, f vetting.CodeFilter, p vetting.Page) ([]*vetting.EnrolmentCode, error) {
	return pick(m, m.codes, p, true, func(c *vetting.EnrolmentCode) int64 { return c.ID }, func(c *vetting.EnrolmentCode) bool {
		return fits(f.Site, c.Site) && fits(f.Order, c.Order) && fits(f.DeviceID, c.DeviceID) && fits(f.Batch, c.Batch) && fits(f.State, c.State)
	})
}

func (m *memory) Code(_ context.Context, id int64) (*vetting.EnrolmentCode, error) {
	return find(m, m.codes, func(c *vetting.EnrolmentCode) bool { return c.ID == id })
}

func (m *memory) CreateCodes(_ context.Context, a access.Act, n vetting.NewCodes) ([]*vetting.EnrolmentCode, error) {
	first := true
	made, err := act(m, a, func() (*[]*vetting.EnrolmentCode, error) {
		first = false
		var list []*vetting.EnrolmentCode
		batch := m.id + 1
		for i := range n.Hashes {
			c := &vetting.EnrolmentCode{ID: m.next(), Batch: batch, Order: n.Order, Site: "near", Expires: n.Expires, State: vetting.CodeUnused}
			if len(n.Devices) > 0 {
				c.DeviceID, c.Serial = n.Devices[i], fmt.Sprint("S-", n.Devices[i])
			}
			list = append(list, c)
		}
		m.codes, m.hashes = append(m.codes, list...), append(m.hashes, n.Hashes...)
		return &list, nil
	})
	if err != nil {
		return nil, err
	}
	if first {
		return nil, vetting.Errorf(vetting.Conflict, "made already")
	}
	return *made, nil
}

func (m *memory) RevokeCode(_ context.Context, a access.Act, id int64) (*vetting.EnrolmentCode, error) {
	return act(m, a, func() (*vetting.EnrolmentCode, error) {
		for _, c := range m.codes {
			if c.ID == id {
				c.State = vetting.CodeRevoked
				return c, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "no code")
	})
}

func (m *memory) RevokeBatch(_ context.Context, a access.Act, batch int64) (int64, error) {
	n, err := act(m, a, func() (*int64, error) {
		n := new(int64)
		for _, c := range m.codes {
			if c.Batch == batch && c.State == vetting.CodeUnused {
				c.State = vetting.CodeRevoked
				*n++
			}
		}
		return n, nil
	})
	if err != nil {
		return 0, err
	}
	return *n, nil
}
