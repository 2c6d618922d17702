package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func (a *app) deviceChallenge() *cobra.Command {
	lifetime, wait := "", false
	c := &cobra.Command{
		Use: "challenge DEVICE", Short: "Challenge a device to prove that it holds its key", Args: cobra.ExactArgs(1),
		Long: `challenge makes a nonce that the device answers once, before it expires: by a signature, which you pass on with "touchmark device
answer", or by connecting to the server itself. With --wait the command waits for that.

Exit status with --wait: 0 the device proved its key; 1 it did not.`,
		Example: "  touchmark device challenge TH-000001\n  touchmark device challenge TH-000001 --wait --lifetime 10m",
	}
	c.Flags().StringVar(&lifetime, "lifetime", "", "how long it may be answered, 10s to 1h (default 5m)")
	c.Flags().BoolVar(&wait, "wait", false, "wait for the answer")
	a.jsonFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		id, err := deviceID(cmd.Context(), cl, args[0])
		if err != nil {
			return err
		}
		number, err := strconv.ParseInt(id, 10, 64)
		if err != nil {
			return err
		}
		var raw []byte
		if err := cl.api(cmd.Context(), http.MethodPost, "/challenges", api.ChallengeInput{Device: number, Lifetime: lifetime}, &raw); err != nil {
			return err
		}
		if !wait {
			return show(a, raw, showChallenge)
		}
		return a.awaitAnswer(cmd.Context(), cl, raw)
	}
	return c
}

func (a *app) deviceAnswer() *cobra.Command {
	var in api.AnswerInput
	c := &cobra.Command{
		Use: "answer CHALLENGE SIGNATURE", Short: "Pass on a device's answer to a challenge", Args: cobra.ExactArgs(2),
		Long:    "answer passes on the signature, in base64, that a device made over a challenge's nonce. It is taken once.\n\nExit status: 0 the device proved its key; 1 it did not.",
		Example: "  touchmark device answer 815 MEUCIQ…",
	}
	c.Flags().StringVar(&in.Certificate, "certificate", "", "the serial number of the certificate whose key signed, if not the current one's")
	a.jsonFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		in.Signature = args[1]
		var raw []byte
		if err := cl.api(cmd.Context(), http.MethodPost, "/challenges/"+segment(args[0])+"/answer", in, &raw); err != nil {
			return err
		}
		return a.tellResult(raw)
	}
	return c
}

// askEvery is how often --wait looks for an answer.
const askEvery = time.Second

// awaitAnswer tells the nonce at once, and the result when there is one.
func (a *app) awaitAnswer(ctx context.Context, cl *client, raw []byte) error {
	made, err := answered[vetting.Challenge](raw)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.err, "challenge %d, nonce %s, until %s\n", made.ID, made.Nonce, text(made.Expires))
	for {
		if err := cl.api(ctx, http.MethodGet, fmt.Sprint("/challenges/", made.ID), nil, &raw); err != nil {
			return err
		}
		now, err := answered[vetting.Challenge](raw)
		switch {
		case err != nil:
			return err
		case now.Result != nil:
			return a.tellResult(raw)
		case time.Now().After(made.Expires):
			return fmt.Errorf("challenge %d expired without an answer", made.ID)
		}
		if err := cl.pause(ctx, askEvery); err != nil {
			return err
		}
	}
}

func (a *app) tellResult(raw []byte) error {
	c, err := answered[vetting.Challenge](raw)
	if err != nil {
		return err
	}
	if err := a.print(raw, func(w io.Writer) { showChallenge(w, c) }); err != nil {
		return err
	}
	if c.Result == nil || c.Result.Outcome != vetting.Proved {
		return errFound
	}
	return nil
}

func showChallenge(w io.Writer, c *vetting.Challenge) {
	field(w, "challenge", c.ID)
	field(w, "device", c.DeviceID)
	field(w, "nonce", c.Nonce)
	field(w, "until", c.Expires)
	if r := c.Result; r != nil {
		field(w, "result", r.Outcome)
		field(w, "", r.Text)
		field(w, "answered", r.At)
		field(w, "by", r.How)
		field(w, "certificate", r.Certificate)
		field(w, "key", r.Key)
	}
}
