package server

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time in the configuration: "90s", "5m", "36h", or
// days before it, "30d" or "1d12h".
type Duration time.Duration

// UnmarshalText reads the text form.
func (d *Duration) UnmarshalText(b []byte) error {
	text := string(b)
	rest, days := text, int64(0)
	if head, tail, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 31)
		if err != nil {
			return fmt.Errorf("%q is no duration: want a number with a unit, such as 500ms, 30s, 5m, 12h or 7d", text)
		}
		days, rest = int64(n), tail
	}
	var v time.Duration
	if rest != "" || days == 0 {
		var err error
		if v, err = time.ParseDuration(rest); err != nil {
			return fmt.Errorf("%q is no duration: want a number with a unit, such as 500ms, 30s, 5m, 12h or 7d", text)
		}
	}
	const day = int64(24 * time.Hour)
	if v < 0 || days > math.MaxInt64/day-1 || int64(v) > math.MaxInt64-days*day {
		return fmt.Errorf("the duration %q is out of range: want 0 to about 290 years", text)
	}
	*d = Duration(days*day + int64(v))
	return nil
}

// MarshalText gives the shortest form that UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Size is a number of bytes in the configuration: "512", "64KiB", "16MiB",
// "4GiB".
type Size int64

var sizeUnits = [...]struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText reads the text form.
func (s *Size) UnmarshalText(b []byte) error {
	text := string(b)
	digits, unit := text, int64(1)
	for _, u := range sizeUnits {
		if head, ok := strings.CutSuffix(text, u.name); ok {
			digits, unit = strings.TrimSpace(head), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return fmt.Errorf("%q is no size: want a number of bytes, or one with the unit KiB, MiB or GiB", text)
	}
	if int64(n) > math.MaxInt64/unit {
		return fmt.Errorf("the size %q is out of range", text)
	}
	*s = Size(int64(n) * unit)
	return nil
}

// MarshalText gives the shortest form that UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Size) String() string {
	for _, u := range sizeUnits {
		if u.bytes > 1 && s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
