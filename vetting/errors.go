package vetting

import (
	"errors"
	"fmt"
)

// Problem is why an operator's act could not be carried out.
type Problem int

const (
	NotFound Problem = iota + 1 // no such object (or none that the operator may see)
	Exists                      // the name is taken
	Conflict                    // the object's state or revision does not allow it
	Invalid                     // the values make no sense
)

// Error is a refused act. Its text is written for the operator: what was
// wrong, with which value, and what to do.
type Error struct {
	Problem Problem
	Text    string
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an *Error.
func Errorf(p Problem, format string, args ...any) error {
	return &Error{p, fmt.Sprintf(format, args...)}
}

// ProblemOf returns the problem of an *Error in err's chain, or 0.
func ProblemOf(err error) Problem {
	var e *Error
	if errors.As(err, &e) {
		return e.Problem
	}
	return 0
}

// KeyError says that a key of the installation, which signs licences or
// firmware, cannot be used at the moment: its HSM is out of reach. Nothing is
// lost by that: who sends the same request again goes on. Err is for the
// server's log only.
type KeyError struct {
	Key string // its name
	Err error
}

func (e *KeyError) Error() string { return fmt.Sprintf("the key %s: %v", e.Key, e.Err) }

func (e *KeyError) Unwrap() error { return e.Err }
