package enroll

import (
	"fmt"
	"time"
)

// IssuerError says that the CA which issues to the device cannot sign on this
// server for now. Nothing was recorded; the same request may come again. Err
// is for the server's log only.
type IssuerError struct {
	Issuer string
	Err    error
}

func (e *IssuerError) Error() string {
	return fmt.Sprintf("the issuing CA %s cannot sign: %v", e.Issuer, e.Err)
}

func (e *IssuerError) Unwrap() error { return e.Err }

// Text is what a client may be told.
func (e *IssuerError) Text() string {
	return fmt.Sprintf("the issuing CA %s cannot sign at the moment: ask again later; the server's /readyz tells its operator why", e.Issuer)
}

// RetryAfter is when the request should come again: mending a CA's key takes
// a person.
func (e *IssuerError) RetryAfter() time.Duration { return time.Minute }
