package device

import (
	"errors"
	"testing"
	"time"
)

func FuzzParseRenewalInfo(f *testing.F) {
	f.Add([]byte(`{"suggestedWindow":{"start":"2027-01-02T04:00:00Z","end":"2027-01-03T04:00:00Z"}}`))
	f.Add([]byte(`{"suggestedWindow":{"start":"2027-01-02T04:00:00Z"}}`))
	f.Add([]byte(`{"suggestedWindow":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		info, err := parseRenewalInfo(body, time.Hour)
		var bad *ReplyError
		switch {
		case err != nil && !errors.As(err, &bad):
			t.Errorf("%T: %v", err, err)
		case err == nil && (info.End.Before(info.Start) || info.Start.IsZero() || info.RetryAfter != time.Hour):
			t.Errorf("%+v", info)
		}
	})
}

func TestRetryAfterIsBounded(t *testing.T) {
	body := []byte(`{"suggestedWindow":{"start":"2027-01-02T04:00:00Z","end":"2027-01-02T04:00:00Z"}}`)
	for said, want := range map[time.Duration]time.Duration{0: time.Minute, time.Second: time.Minute, time.Hour: time.Hour, 9999 * time.Hour: 24 * time.Hour} {
		if info, err := parseRenewalInfo(body, said); err != nil || info.RetryAfter != want {
			t.Errorf("%s: %+v, %v", said, info, err)
		}
	}
}
