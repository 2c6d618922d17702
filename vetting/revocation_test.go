package vetting

import (
	"strings"
	"testing"
)

// The numbers are those of RFC 5280 §5.3.1.
func TestRevocationReasons(t *testing.T) {
	for reason, want := range map[RevocationReason]int{
		RevokedUnspecified: 0, RevokedKeyCompromise: 1, RevokedAffiliationChanged: 3,
		RevokedSuperseded: 4, RevokedCessation: 5, RevokedPrivilegeWithdrawn: 9,
	} {
		if code, err := reason.Code(); code != want || err != nil || ReasonName(code) != reason {
			t.Errorf("%s is %d (%v), and %d is %s", reason, code, err, want, ReasonName(want))
		}
	}
	for reason, says := range map[RevocationReason]string{
		"cACompromise": "roll the CA over", "certificateHold": "suspend or quarantine", "removeFromCRL": "resume or release",
		"aACompromise": "attribute certificates", "": "no revocation reason", "KEYCOMPROMISE": "possible are unspecified, keyCompromise",
	} {
		if _, err := reason.Code(); ProblemOf(err) != Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want it to say %q", reason, err, says)
		}
	}
	if ReasonName(6) != "certificateHold" || ReasonName(7) != "reason 7" || ReasonName(-1) != "reason -1" || ReasonName(11) != "reason 11" {
		t.Error("a number has another name")
	}
}
