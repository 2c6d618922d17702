package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/server/api"
)

// wrapping is what firmware wrap was told.
type wrapping struct {
	api.WrapInput
	artefact, in, out string
	endOnly           bool
}

// serialMark stands in --out for a device's serial number.
const serialMark = "{serial}"

func (a *app) firmwareWrap() *cobra.Command {
	var w wrapping
	c := &cobra.Command{Use: "wrap PRODUCT@VERSION|TICKET", Short: "Make what a device gets of an encrypted file", Args: cobra.ExactArgs(1),
		Long: `wrap has the server wrap an encrypted file for devices, or for all that have a family's key, and writes the file that they install: what firmware
sign wrote, and what follows it for this device. With --end-only it writes no more than that, a few hundred bytes, so that the large part can come
from a cache. The large part is never sent; that takes as long for gigabytes as for kilobytes.

Devices must be active, of the release's product, and with a certificate that is not revoked. If one of several is not, nothing is wrapped for any.
A production release must be signed and not yanked; name an artefact for test by its ticket. For whom it was, is in the audit log.`,
		Example: "  touchmark firmware wrap thermostat@1.4.0 --device S-4711 --in app.bin.encrypted --out app-S-4711.bin\n" +
			"  touchmark firmware wrap thermostat@1.4.0 --device S-4711 --device S-4712 --end-only --out 'ends/{serial}'\n" +
			"  touchmark firmware wrap thermostat@1.4.0 --family --key thermostat-2027 --in app.bin.encrypted --out app-family.bin"}
	f := c.Flags()
	f.StringArrayVar(&w.Serials, "device", nil, "the serial number of a device of the product; may be repeated")
	f.BoolVar(&w.Family, "family", false, "for all devices that have the family's keys")
	f.StringArrayVar(&w.Names, "key", nil, "the family's key; may be repeated for RAUC (default: all that are not revoked)")
	f.StringVar(&w.artefact, "artefact", "", "the artefact of the release (default: the only one that is encrypted)")
	f.StringVar(&w.in, "in", "", "the encrypted `file` that firmware sign wrote")
	f.BoolVar(&w.endOnly, "end-only", false, "write only what follows the encrypted file")
	f.StringVar(&w.out, "out", "", "where it goes; "+serialMark+" stands for the serial number (required)")
	_ = c.MarkFlagRequired("out")
	c.MarkFlagsMutuallyExclusive("device", "family")
	c.MarkFlagsOneRequired("device", "family")
	c.MarkFlagsMutuallyExclusive("in", "end-only")
	c.MarkFlagsOneRequired("in", "end-only")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		if len(w.Serials) > 1 && !strings.Contains(w.out, serialMark) {
			return nil, usagef("--out %s: with several devices put %s where the serial number goes", w.out, serialMark)
		}
		part, err := w.find(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := cl.api(ctx, http.MethodPost, artefactPath(part.ID)+"/wraps", w.WrapInput, &raw); err != nil {
			return nil, err
		}
		made, err := answered[api.Wraps](raw)
		if err != nil {
			return nil, err
		}
		return raw, w.write(made)
	}, showWraps)
}

// find finds the artefact: by its ticket, or as a part of a release.
func (w *wrapping) find(ctx context.Context, cl *client, name string) (*release.Artefact, error) {
	if !strings.Contains(name, "@") {
		_, part, err := artefactByTicket(ctx, cl, name)
		return part, err
	}
	r, _, err := releaseNamed(ctx, cl, name)
	if err != nil {
		return nil, err
	}
	var found []*release.Artefact
	for i := range r.Artefacts {
		if part := &r.Artefacts[i]; part.Name == w.artefact || w.artefact == "" && part.Encrypted() {
			found = append(found, part)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("release %s has no such artefact: only what was signed with --set encrypt=… is wrapped", name)
	case 1:
		return found[0], nil
	}
	return nil, usagef("release %s has several encrypted artefacts: say which with --artefact", name)
}

// write writes a file for each target. None gets its name before it is whole.
func (w *wrapping) write(made *api.Wraps) error {
	for _, e := range made.Ends {
		path := strings.ReplaceAll(w.out, serialMark, e.Serial)
		if err := w.writeOne(path, made.Shared, e.End); err != nil {
			return err
		}
	}
	return nil
}

func (w *wrapping) writeOne(path string, shared release.File, end []byte) (err error) {
	out, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // fails, as it should, once it is renamed
	if !w.endOnly {
		err = copyShared(out, w.in, shared)
	}
	if err == nil {
		_, err = out.Write(end)
	}
	if err == nil {
		err = out.Chmod(0o644)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}

// copyShared copies the encrypted file, and refuses another one.
func copyShared(out io.Writer, path string, want release.File) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), in)
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != want.Size || sum != want.SHA256 {
		return fmt.Errorf("%s is not the encrypted file: it has %s and the SHA-256 %s, but the artefact has %d and %s", path, counted(n, "byte", "bytes"), sum, want.Size, want.SHA256)
	}
	return nil
}

func showWraps(w io.Writer, made *api.Wraps) {
	field(w, "shared", fmt.Sprintf("%s, sha256 %s", counted(made.Shared.Size, "byte", "bytes"), made.Shared.SHA256))
	for _, e := range made.Ends {
		whom := "the family"
		if e.Device != 0 {
			whom = fmt.Sprintf("device %d (%s)", e.Device, e.Serial)
		}
		field(w, "wrapped for", fmt.Sprintf("%s, in %s", whom, counted(int64(len(e.End)), "byte", "bytes")))
	}
}

func (a *app) firmwareWraps() *cobra.Command {
	limit := 0
	c := &cobra.Command{Use: "wraps TICKET", Short: "List for whom an encrypted file was wrapped, newest first", Args: cobra.ExactArgs(1)}
	c.Flags().IntVar(&limit, "limit", 100, "show at most so many; 0 shows all")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return runList(cmd.Context(), a, "/artefacts/"+segment(args[0])+"/wraps", nil, limit, table[release.Wrapped]{
			columns: "DEVICE\tRECIPIENT\tAT\tBY", none: "It was wrapped for nobody yet.",
			row: func(p *release.Wrapped) []any { return []any{p.Device, p.Recipient, p.At, p.By} },
		})
	}
	return a.jsonFlag(c)
}
