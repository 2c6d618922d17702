package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) rigCommand() *cobra.Command {
	return group("rig", "At a QA rig: let the unit in front of you in",
		`A rig on the line vouches for the unit in front of it: it registers the unit and gets the verdict in the same second, and says whether the
unit passed its test. These commands need a rig's certificate (`+"`touchmark operator add NAME --role rig`"+`).

Exit status: 0 the unit is admitted, or what was to be kept is kept; 75 the unit is held, ask again later; 1 it is refused or something
failed; 2 the command line makes no sense.`,
		a.rigRegister(), a.rigTest("pass", true), a.rigTest("fail", false), a.rigReplace(), a.rigRun())
}

// unitFlags name the unit in front of the rig.
func unitFlags(c *cobra.Command, u *api.Unit) {
	f := c.Flags()
	f.StringVar(&u.Product, "product", "", "what the unit should be; needed if products share serial numbers")
	f.StringVar(&u.Serial, "serial", "", "its serial number")
	f.StringVar(&u.MAC, "mac", "", "its MAC address")
	f.StringVar(&u.UID, "uid", "", "its chip's UID")
	c.MarkFlagsOneRequired("serial", "mac", "uid")
}

// errHeld ends a command whose unit is held; the verdict was printed.
var errHeld = errors.New("the unit is held")

func (a *app) rigRegister() *cobra.Command {
	var in api.RegistrationInput
	var csr, out string
	var wait time.Duration
	c := &cobra.Command{
		Use: "register", Short: "Register a unit and get the verdict", Args: cobra.NoArgs,
		Long: `register asks the server to let a unit in, by its identifiers and the PKCS#10 request that its own key signed, prints the verdict and
the reasons, and writes the unit's certificate to a file if it is admitted. Asking again is safe: until the unit has used its
certificate, the same request gets the same one and takes no second unit of the order.`,
		Example: "  touchmark --dir rig-7 rig register --serial A-0001 --mac 02:00:5e:10:00:01 --csr a-0001.csr --out a-0001.crt",
	}
	f := c.Flags()
	unitFlags(c, &in.Unit)
	f.StringVar(&csr, "csr", "", "its PKCS#10 request in PEM or base64, a `file`; - for standard input (required)")
	f.StringVar(&out, "out", "", "the `file` for its certificate in PEM; without it the certificate is printed")
	f.StringVar(&in.Code, "code", "", "the enrolment code on its label, where the product wants one as well")
	f.DurationVar(&wait, "wait", 0, "how long to ask again while the unit is held, such as 5m")
	_ = c.MarkFlagRequired("csr")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		if in.CSR, err = a.readText(csr); err != nil {
			return fmt.Errorf("the unit's request: %w", err)
		}
		raw, res, err := register(cmd.Context(), cl, in, wait)
		if err != nil {
			return err
		}
		if res.Certificate != "" && out != "" {
			if err := os.WriteFile(out, []byte(res.Certificate), 0o644); err != nil {
				return fmt.Errorf("the unit is admitted, but its certificate could not be written; ask again: %w", err)
			}
		}
		if err := a.print(raw, func(w io.Writer) { showVerdict(w, res, out) }); err != nil {
			return err
		}
		switch res.Verdict {
		case vetting.Admitted:
			return nil
		case vetting.Held:
			return errHeld
		}
		return errFound
	}
	return a.jsonFlag(c)
}

// register asks until the unit is not held any more or the wait is over.
func register(ctx context.Context, cl *client, in api.RegistrationInput, wait time.Duration) (raw json.RawMessage, res *api.RegistrationResult, err error) {
	until := time.Now().Add(wait)
	for {
		var answer []byte
		if err := cl.api(ctx, http.MethodPost, "/registrations", in, &answer); err != nil {
			return nil, nil, err
		}
		res = new(api.RegistrationResult)
		if err := decode(answer, res); err != nil {
			return nil, nil, err
		}
		pause := max(time.Second, time.Duration(res.RetryAfter)*time.Second)
		if left := time.Until(until); res.Verdict != vetting.Held || left <= 0 {
			return answer, res, nil
		} else if pause > left {
			pause = left
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

func (a *app) readText(file string) (string, error) {
	if file == "-" {
		text, err := io.ReadAll(io.LimitReader(a.in, 64<<10))
		return string(text), err
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

func showVerdict(w io.Writer, r *api.RegistrationResult, out string) {
	field(w, "verdict", r.Verdict)
	for _, reason := range r.Reasons {
		field(w, "because", reason.Text)
	}
	if r.Registration != 0 {
		field(w, "registration", r.Registration)
	}
	switch {
	case r.Certificate != "" && out != "":
		field(w, "certificate", out)
	case r.Certificate != "":
		fmt.Fprint(w, r.Certificate)
	case r.RetryAfter > 0:
		field(w, "ask again in", time.Duration(r.RetryAfter)*time.Second)
	}
}
