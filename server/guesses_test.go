package server

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// Codes that do not count have their rate, by address and by serial number;
// codes that do have none but that of each.
func TestGuessesAreBounded(t *testing.T) {
	m := testMetrics()
	f := newFairEnroller(Enrol{}, networks{netip.MustParsePrefix("192.0.2.99/32")}, m, nil)
	wrong := fixed{out: enroll.Outcome{Verdict: vetting.Refused, Reasons: []vetting.Reason{{Code: vetting.ReasonWrongCode}}}}
	right := fixed{out: enroll.Outcome{Verdict: vetting.Admitted, Reasons: []vetting.Reason{{Code: vetting.ReasonVetted}}}}
	quota := fixed{out: enroll.Outcome{Verdict: vetting.Refused, Reasons: []vetting.Reason{{Code: vetting.ReasonQuota}}}}
	f.guesses.addresses, _ = frozen[netip.Prefix](1)
	f.guesses.serials, _ = frozen[string](1)
	n := 0
	ask := func(e enroller, from, serial string) error {
		n++
		f.enroller = e
		c := vetting.Claim{Transport: "est", Remote: from, Asserted: vetting.Identity{Serial: serial},
			Auth: vetting.Auth{Proof: vetting.ProofCode, CodeHash: vetting.CodeHash{byte(n), byte(n >> 8), 1}}}
		_, err := f.Enroll(t.Context(), enroll.Request{Claim: c})
		return err
	}
	var busy *enroll.BusyError
	for i := range 3 * leastBurst { // honest devices behind one address
		for _, e := range []enroller{right, quota} {
			if err := ask(e, "192.0.2.1", fmt.Sprint("SN-", i)); err != nil {
				t.Fatalf("after %d: %v", i, err)
			}
		}
	}
	until := func(name func(int) (from, serial string)) int {
		for i := range 10 * leastBurst {
			if err := ask(wrong, first(name(i)), second(name(i))); err != nil {
				if !errors.As(err, &busy) || !busy.Share {
					t.Error(err)
				}
				return i
			}
		}
		return -1
	}
	if n := until(func(i int) (string, string) { return "192.0.2.1", fmt.Sprint("A-", i) }); n != leastBurst {
		t.Errorf("one address, many serial numbers: stopped after %d", n)
	}
	if n := until(func(i int) (string, string) { return fmt.Sprint("198.51.100.", i), "B-1" }); n != leastBurst {
		t.Errorf("many addresses, one serial number: stopped after %d", n)
	}
	if n := until(func(i int) (string, string) { return "192.0.2.99", fmt.Sprint("C-", i) }); n != -1 {
		t.Errorf("an exempt address: stopped after %d", n)
	}
	if n := until(func(i int) (string, string) { return fmt.Sprint("203.0.113.", i), "" }); n != -1 {
		t.Errorf("no serial number and many addresses: stopped after %d", n)
	}
	if err := ask(right, "192.0.2.1", "D-1"); err == nil {
		t.Error("an address that guessed too much is heard")
	}
	if err := ask(right, "192.0.2.2", "D-1"); err != nil {
		t.Errorf("its neighbour: %v", err)
	}
	if n := testutil.ToFloat64(m.shed.WithLabelValues("est", shedCodeRate)); n != 3 {
		t.Errorf("%v counted", n)
	}
}

func first(a, _ string) string  { return a }
func second(_, b string) string { return b }

// A code alone stands for its device: asking by the same one all the time is
// asking too often, asking by many is not.
func TestCodesHaveTheirRate(t *testing.T) {
	f := newFairEnroller(Enrol{}, nil, testMetrics(), fixed{})
	f.devices, _ = frozen[vetting.Fingerprint](1)
	ask := func(code byte) error {
		_, err := f.Enroll(t.Context(), enroll.Request{Claim: vetting.Claim{Transport: "est", Auth: vetting.Auth{Proof: vetting.ProofCode, CodeHash: vetting.CodeHash{code}}}})
		return err
	}
	for n := range 3 * leastBurst {
		if err := ask(byte(n + 1)); err != nil {
			t.Fatal(err)
		}
	}
	for range leastBurst - 1 {
		if err := ask(1); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(1); err == nil {
		t.Error("one code is heard without end")
	}
}
