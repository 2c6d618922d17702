package enroll

import "time"

// BusyError says that a request was not begun, because there is too much to
// do. Nothing was recorded; the same request may come again.
type BusyError struct {
	Reason string
	// RetryAfter is when it should come again.
	RetryAfter time.Duration
	// Share says that the client alone sends too much, and not all together.
	Share bool
}

func (e *BusyError) Error() string { return e.Reason }
