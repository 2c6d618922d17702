package release

import (
	"cmp"
	"strings"
)

// CompareVersions orders versions: numbers in them by their value, the rest as
// text; what goes on after a ~ or - comes before what ends there, as
// 1.2.0-rc1 before 1.2.0. What follows a + is of no weight.
func CompareVersions(a, b string) int {
	a, _, _ = strings.Cut(a, "+")
	b, _, _ = strings.Cut(b, "+")
	for a != "" || b != "" {
		if early := earlier(a, b); early != 0 {
			return early
		}
		var x, y string
		x, a = run(a)
		y, b = run(b)
		if c := compareRuns(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// earlier tells by what one version goes on with where the other has ended or
// goes on otherwise.
func earlier(a, b string) int {
	return cmp.Compare(pre(b), pre(a))
}

func pre(s string) int {
	if strings.HasPrefix(s, "~") || strings.HasPrefix(s, "-") {
		return 1
	}
	return 0
}

// run takes the digits, or the signs up to the next digit, that a text begins
// with.
func run(s string) (first, rest string) {
	i := 0
	for i < len(s) && digit(s[i]) == digit(s[0]) {
		i++
	}
	return s[:i], s[i:]
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func compareRuns(x, y string) int {
	if x != "" && y != "" && digit(x[0]) && digit(y[0]) {
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if c := cmp.Compare(len(x), len(y)); c != 0 {
			return c
		}
	}
	return strings.Compare(x, y)
}
