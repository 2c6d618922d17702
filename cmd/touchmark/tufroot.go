package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/firmware-sign/tuf"
	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) tufRoot() *cobra.Command {
	return group("root", "Roots: who signs what in the TUF repository",
		`A root names the keys of all roles, and how many of its own keys have to sign the next root. It is written where the server is reached, signed on
machines without a network, and brought back.`,
		a.tufRootMakeKey(), a.tufRootCreate(), a.tufRootSign(), a.tufRootImport())
}

func (a *app) tufRootMakeKey() *cobra.Command {
	kind, out := "", ""
	c := &cobra.Command{Use: "make-key KEY", Short: "Make a key that signs roots", Args: cobra.ExactArgs(1),
		Long: `make-key makes a key in a file, or wherever a URI says (pkcs11:…), and writes its public half for touchmark tuf root create. It needs no server,
no configuration and no network.`,
		Example: "  touchmark tuf root make-key anna.key -o anna.pub"}
	tufKind(c, &kind)
	outFlag(c, &out)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		signer, err := keys.Ring{Dir: "."}.Create(cmd.Context(), keyURI(args[0]), keys.Kind(kind))
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			return err
		}
		id, err := tuf.KeyID(signer.Public())
		if err != nil {
			return err
		}
		fmt.Fprintf(a.err, "made in %s\n  key ID          %s\n", keys.Redact(args[0]), id)
		return a.writeNew(out, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	return c
}

// tufRootInput is what a new root is made of, besides what is there.
type tufRootInput struct {
	keys      []string // files
	threshold int
	days      int
}

func (a *app) tufRootCreate() *cobra.Command {
	var in tufRootInput
	out := ""
	c := &cobra.Command{Use: "create", Short: "Write the next root, to be signed",
		Long: `create asks the server for its newest keys and the root in force, and writes the root that follows. The first one needs the public keys that are to
sign roots, and how many of them must; a later one keeps both unless they are given. As many as the root in force demands must sign it, too.`,
		Example: "  touchmark tuf root create --root-key anna.pub --root-key berta.pub --root-key carla.pub --threshold 2 -o root.json\n  touchmark tuf root create -o root-2.json"}
	c.Flags().StringArrayVar(&in.keys, "root-key", nil, "a `file` with a public key that signs roots, in PEM; repeat it for all of them")
	c.Flags().IntVar(&in.threshold, "threshold", 0, "how many of them must sign a root")
	c.Flags().IntVar(&in.days, "days", 365, "how long the root is good, in days")
	outFlag(c, &out)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		have, err := tufState(cmd.Context(), cl)
		if err != nil {
			return err
		}
		root, before, err := in.next(have, time.Now())
		if err != nil {
			return err
		}
		text, err := root.JSON()
		if err != nil {
			return err
		}
		fmt.Fprintln(a.err, rootText(root, before))
		return a.writeNew(out, text)
	}
	return c
}

// next is the root that follows on what the server has.
func (in *tufRootInput) next(have *api.TUFRepository, now time.Time) (root, before *tuf.Root, err error) {
	var roles tuf.Roles
	version := 1
	if have.Root != nil {
		if before, err = tuf.ParseRoot(have.Root.Content); err != nil {
			return nil, nil, fmt.Errorf("the root in force: %w", err)
		}
		version, roles.Root = before.Version+1, before.Roles.Root
	}
	if in.days < 1 {
		return nil, nil, usagef("the root would be good for %d days: want 1 or more", in.days)
	}
	if len(in.keys) > 0 {
		if roles.Root.Keys, err = publicKeys(in.keys); err != nil {
			return nil, nil, err
		}
	}
	if in.threshold != 0 {
		roles.Root.Threshold = in.threshold
	}
	if len(roles.Root.Keys) == 0 || roles.Root.Threshold == 0 {
		return nil, nil, usagef("who signs roots? Name the public keys with --root-key, and with --threshold how many of them must")
	}
	for role, to := range map[repository.Role]*tuf.Role{repository.Targets: &roles.Targets, repository.Snapshot: &roles.Snapshot, repository.Timestamp: &roles.Timestamp} {
		k := newestTUFKey(have, role)
		if k == nil {
			return nil, nil, fmt.Errorf("the server has no key for %s: make its keys with `touchmark tuf init`", role)
		}
		pub, err := x509.ParsePKIXPublicKey(k.PublicKey)
		if err != nil {
			return nil, nil, err
		}
		*to = tuf.Role{Keys: []crypto.PublicKey{pub}, Threshold: 1}
	}
	root, err = tuf.BeginRoot(version, now.Add(time.Duration(in.days)*tufDay), roles)
	return root, before, err
}

func publicKeys(files []string) (list []crypto.PublicKey, err error) {
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(content)
		if block == nil || block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("%s holds no public key in PEM", name)
		}
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, pub)
	}
	return list, nil
}

func readRoot(name string) (*tuf.Root, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	root, err := tuf.ParseRoot(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return root, nil
}

func (a *app) tufRootSign() *cobra.Command {
	key, former, out := "", "", ""
	c := &cobra.Command{Use: "sign ROOT", Short: "Sign a root with a key that signs roots", Args: cobra.ExactArgs(1),
		Long: `sign shows what the root says and, if you say yes, adds a signature. Compare the key IDs with those that touchmark tuf root create printed.
It needs no server, no configuration and no network. With the root before (--before) it shows what changes, and takes that root's keys, too.`,
		Example: "  touchmark tuf root sign root.json --key anna.key -o root-anna.json\n  touchmark tuf root sign root-2.json --before 1.root.json --key pkcs11:token=safe;object=anna -o root-2-anna.json"}
	c.Flags().StringVar(&key, "key", "", "the key, a `file` or URI (required)")
	c.Flags().StringVar(&former, "before", "", "a `file` with the root before")
	_ = c.MarkFlagRequired("key")
	outFlag(c, &out)
	a.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		root, err := readRoot(args[0])
		if err != nil {
			return err
		}
		var before *tuf.Root
		if former != "" {
			if before, err = readRoot(former); err != nil {
				return err
			}
		}
		signer, err := keys.Ring{Dir: "."}.Open(cmd.Context(), keyURI(key))
		if err != nil {
			return err
		}
		if err := mayTUFSign(root, before, signer.Public()); err != nil {
			return err
		}
		if err := a.confirm(rootText(root, before) + "\nThis key signs it:\n" + keyLine(signer.Public(), root)); err != nil {
			return err
		}
		return a.signRoot(root, before, signer, out)
	}
	return c
}

// mayTUFSign refuses a key whose signature nobody wants, and roots that do not
// follow each other.
func mayTUFSign(root, before *tuf.Root, pub crypto.PublicKey) error {
	switch {
	case before != nil && root.Version != before.Version+1:
		return fmt.Errorf("root %d does not follow root %d", root.Version, before.Version)
	case root.Roles.Root.Has(pub), before != nil && before.Roles.Root.Has(pub):
		return nil
	case before == nil && root.Version > 1:
		return errors.New("this key is none of those that the root names; if the root before names it, give that, too (--before)")
	}
	return errors.New("this key is none of those that sign this root")
}

func (a *app) signRoot(root, before *tuf.Root, signer crypto.Signer, out string) error {
	want, err := root.ToSign(signer.Public())
	if err != nil {
		return err
	}
	sig, err := want.Sign(signer)
	if err != nil {
		return err
	}
	if err := root.Add(tuf.Signature{Key: signer.Public(), Bytes: sig}); err != nil {
		return err
	}
	content, err := root.JSON()
	if err != nil {
		return err
	}
	if err := a.writeNew(out, content); err != nil {
		return err
	}
	fmt.Fprintln(a.err, lacking(root, before))
	return nil
}

// lacking says whose signatures a root still wants.
func lacking(root, before *tuf.Root) string {
	var parts []string
	note := func(what string, of tuf.Role) {
		if n := of.Threshold - len(root.SignedBy(of)); n > 0 {
			parts = append(parts, fmt.Sprintf("%d of %s", n, what))
		}
	}
	note(fmt.Sprintf("the keys of root %d", root.Version), root.Roles.Root)
	if before != nil {
		note(fmt.Sprintf("the keys of root %d", before.Version), before.Roles.Root)
	}
	if len(parts) > 0 {
		return "Signatures that it still wants: " + strings.Join(parts, ", ") + "."
	}
	return "Enough keys have signed it: `touchmark tuf root import` takes it."
}

func (a *app) tufRootImport() *cobra.Command {
	c := &cobra.Command{Use: "import ROOT...", Short: "Take a signed root", Args: cobra.MinimumNArgs(1),
		Long: `import puts the signatures of several files of the same root together, and hands it to the server, which takes it if its version is the next, as many
of its keys have signed it as it demands, and as many of those of the root before. All metadata is made anew below it at once. The same root again
changes nothing.`,
		Example: "  touchmark tuf root import root-anna.json root-berta.json"}
	a.yesFlag(c)
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		root, err := readRoot(args[0])
		if err != nil {
			return nil, err
		}
		for _, name := range args[1:] {
			more, err := readRoot(name)
			if err == nil {
				err = root.Merge(more)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
		if err := a.confirm(rootText(root, nil)); err != nil {
			return nil, err
		}
		content, err := root.JSON()
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, "/tuf/roots", api.TUFRootInput{Content: content}, &raw)
		return raw, err
	}, showTUF)
}

// rootText is what people compare before they sign a root.
func rootText(root, before *tuf.Root) string {
	var b strings.Builder
	fmt.Fprintf(&b, "TUF root %d, good until %s:\n", root.Version, root.Expires.Format(time.RFC3339))
	former := tuf.Roles{}
	if before != nil {
		former = before.Roles
	}
	for _, r := range []struct {
		name    string
		of, was tuf.Role
	}{{"root", root.Roles.Root, former.Root}, {"targets", root.Roles.Targets, former.Targets}, {"snapshot", root.Roles.Snapshot, former.Snapshot}, {"timestamp", root.Roles.Timestamp, former.Timestamp}} {
		fmt.Fprintf(&b, "\n%s: %d of %s must sign", r.name, r.of.Threshold, counted(int64(len(r.of.Keys)), "key", "keys"))
		if before != nil && r.was.Threshold != r.of.Threshold {
			fmt.Fprintf(&b, " (was %d)", r.was.Threshold)
		}
		b.WriteByte('\n')
		for _, pub := range r.of.Keys {
			b.WriteString(keyLine(pub, root))
			if before != nil && !r.was.Has(pub) {
				b.WriteString(", new")
			}
			b.WriteByte('\n')
		}
		for _, pub := range r.was.Keys {
			if !r.of.Has(pub) {
				b.WriteString(keyLine(pub, root) + ", no longer\n")
			}
		}
	}
	return b.String()
}

func keyLine(pub crypto.PublicKey, root *tuf.Root) string {
	id, err := tuf.KeyID(pub)
	if err != nil {
		return "  " + err.Error()
	}
	line := "  key ID          " + id
	if len(root.SignedBy(tuf.Role{Keys: []crypto.PublicKey{pub}})) > 0 {
		line += ", has signed"
	}
	return line
}
