package store

import (
	"github.com/touchmark/touchmark/vetting"
)

// loadDevice, loadOrder, loadCertificate and loadCode read a row once for the whole
// batch.
func (w *writing) loadDevice(id int64) {
	if w.devices[id] == nil {
		w.devices[id] = &deviceRow{ID: id, State: string(vetting.DeviceManufactured)}
		w.wantDevices = append(w.wantDevices, id)
	}
}

func (w *writing) loadOrder(id int64) {
	if w.orders[id] == nil {
		w.orders[id] = new(orderRow)
		w.wantOrders = append(w.wantOrders, id)
	}
}

func (w *writing) loadCertificate(id int64) {
	if w.certificates[id] == nil {
		w.certificates[id] = new(certificateRow)
		w.wantCertificates = append(w.wantCertificates, id)
	}
}

func (w *writing) loadCode(id int64) {
	if w.codes[id] == nil {
		w.codes[id] = new(codeRow)
		w.wantCodes = append(w.wantCodes, id)
	}
}

// loadKey asks which device, or which device's record, holds a key.
func (w *writing) loadKey(key vetting.Fingerprint) { w.wantKeys = append(w.wantKeys, key[:]) }

// loadEK asks which device enrolled by the TPM with an endorsement key.
func (w *writing) loadEK(ek vetting.Fingerprint) { w.wantEKs = append(w.wantEKs, ek[:]) }

// read reads what was asked for by now.
func (w *writing) read() error {
	w.fetchOneOf(`SELECT `+deviceColumns+` FROM devices d WHERE d.id IN`, nil, w.wantDevices, func(r row) error {
		d := &deviceRow{stored: true}
		err := r.Scan(d.dest()...)
		w.devices[d.ID] = d
		return err
	})
	w.fetchOneOf(`SELECT `+orderColumns+` FROM orders o WHERE o.id IN`, nil, w.wantOrders, func(r row) error {
		o := new(orderRow)
		err := r.Scan(o.dest()...)
		w.orders[o.ID] = o
		return err
	})
	w.fetchOneOf(withFormer+`WHERE c.id IN`, nil, w.wantCertificates, func(r row) error {
		c := new(certificateRow)
		err := c.scanWithFormer(r)
		w.certificates[c.ID] = c
		return err
	})
	w.fetchOneOf(`SELECT `+codeColumns+` FROM codes c WHERE c.id IN`, nil, w.wantCodes, func(r row) error {
		c := new(codeRow)
		err := r.Scan(c.dest()...)
		w.codes[c.ID] = c
		return err
	})
	w.fetchOneOf(`SELECT rec.key, rec.id FROM records rec WHERE rec.key IN`, nil, w.wantKeys, readHolder(w.keys))
	w.fetchOneOf(`SELECT d.ek, d.id FROM devices d WHERE d.ek IN`, nil, w.wantEKs, readHolder(w.eks))
	w.fetchOneOf(`SELECT d.key, d.id FROM devices d WHERE d.key IN`, nil, w.wantKeys, readHolder(w.keys))
	w.fetchOneOf(`SELECT rec.id FROM records rec WHERE rec.contested <> 0 AND rec.id IN`, nil, w.wantContested, func(r row) error {
		var id int64
		err := r.Scan(&id)
		w.contested[id] = true
		return err
	})
	w.fetchOneOf(`SELECT m.digest FROM messages m WHERE m.digest IN`, nil, w.wantMessages, func(r row) error {
		var digest []byte
		err := r.Scan(&digest)
		w.messages[[32]byte(digest)] = true
		return err
	})
	w.readChips()
	w.wantDevices, w.wantOrders, w.wantCertificates, w.wantCodes, w.wantKeys, w.wantEKs, w.wantContested, w.wantMessages = nil, nil, nil, nil, nil, nil, nil, nil
	return w.flush()
}

func readHolder(into map[vetting.Fingerprint]int64) func(row) error {
	return func(r row) error {
		var key []byte
		var id int64
		err := r.Scan(&key, &id)
		into[vetting.Fingerprint(key)] = id
		return err
	}
}
