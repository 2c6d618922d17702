package enroll

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// DecodeJSON reads a device's message that is one JSON value and nothing else,
// without unknown fields. Its errors are *RequestErrors, which begin with what
// the message is.
func DecodeJSON(what string, message []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(message))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return BadRequest("%s: %s", what, JSONFault(err))
	}
	if _, err := d.Token(); err != io.EOF {
		return BadRequest("%s goes on after its closing brace", what)
	}
	return nil
}

// JSONFault is what is wrong in JSON, without the names of Go's types.
func JSONFault(err error) string {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return "the field " + kind.Field + " cannot hold a JSON " + kind.Value
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the JSON ends too early"
	}
	return err.Error()
}
