package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/touchmark/touchmark/server"
)

// app is one run of the command line.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string

	dir     string
	profile server.Profile
	json    bool
	yes     bool
}

func newApp(in io.Reader, out, err io.Writer) *app {
	return &app{in: in, out: out, err: err, getenv: os.Getenv}
}

// terminal reports whether a stream is a terminal, so that there is a person
// at it.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (a *app) profileFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&a.dir, "dir", "", "data directory, or one that `operator add` made: its cli.yaml says which server and who you are")
	f.StringVar(&a.profile.Server, "server", "", "address of the operators' API, https://HOST:PORT")
	f.StringVar(&a.profile.Certificate, "cert", "", "your operator's certificate, a PEM `file`")
	f.StringVar(&a.profile.Key, "key", "", "its private key: a PEM `file`, or a URI such as pkcs11:…")
	f.StringVar(&a.profile.CA, "ca", "", "the root certificate that the server's chains to, a PEM `file`")
}

// dataDir is the directory of --dir or TOUCHMARK_DIR, "" if neither is given.
func (a *app) dataDir() string {
	if a.dir != "" {
		return a.dir
	}
	return a.getenv("TOUCHMARK_DIR")
}

// resolve completes the profile: flags go before the environment, the
// environment before the file.
func (a *app) resolve() (server.Profile, error) {
	p := a.profile
	for _, f := range []struct {
		value *string
		env   string
	}{{&p.Server, "TOUCHMARK_SERVER"}, {&p.Certificate, "TOUCHMARK_CERT"}, {&p.Key, "TOUCHMARK_KEY"}, {&p.CA, "TOUCHMARK_CA"}} {
		if *f.value == "" {
			*f.value = a.getenv(f.env)
		}
	}
	dir := a.dataDir()
	file, err := server.LoadProfile(filepath.Join(dir, server.ProfileFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && dir != "":
		return p, usagef("%s holds no %s: name the directory that `touchmark init` or `touchmark operator add` made", dir, server.ProfileFile)
	case errors.Is(err, fs.ErrNotExist):
		file = new(server.Profile)
	case err != nil:
		return p, err
	}
	for _, f := range []struct{ value, from *string }{
		{&p.Server, &file.Server}, {&p.Certificate, &file.Certificate}, {&p.Key, &file.Key}, {&p.CA, &file.CA},
	} {
		if *f.value == "" {
			*f.value = *f.from
		}
	}
	if p.Server == "" {
		return p, usagef("which server? Give --dir DIR (made by `touchmark init` or `touchmark operator add`), or --server, --cert, --key and --ca")
	}
	return p, nil
}

// group makes a command that only holds others.
func group(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(subs...)
	return c
}

// strict makes a wrong number of arguments or an unknown subcommand an error
// of usage.
func strict(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			switch {
			case err == nil:
				return flagsGiven(cmd)
			case cmd.HasSubCommands():
				hint := ""
				if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
					hint = fmt.Sprintf("; did you mean %q?", near[0])
				}
				return usagef("%s has no command %q%s", cmd.CommandPath(), args[0], hint)
			}
			return usagef("%v; usage: %s", err, cmd.UseLine())
		}
	}
	c.SuggestionsMinimumDistance = 2
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

// flagsGiven checks for required flags, before cobra does.
func flagsGiven(c *cobra.Command) error {
	err := c.ValidateRequiredFlags()
	if err == nil {
		err = c.ValidateFlagGroups()
	}
	if err != nil {
		return usagef("%v; `%s --help` tells about them", err, c.CommandPath())
	}
	return nil
}

// confirm asks a person before something that cannot simply be undone. what
// says what will happen. With --yes it only tells.
func (a *app) confirm(what string) error {
	fmt.Fprintln(a.err, what)
	if a.yes {
		return nil
	}
	if !terminal(a.in) {
		return usagef("nobody is here to ask: add --yes to do it")
	}
	fmt.Fprint(a.err, "Do it? [y/N] ")
	var answer string
	_, _ = fmt.Fscanln(a.in, &answer) // an empty line is a no
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

func (a *app) yesFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVarP(&a.yes, "yes", "y", false, "do it without asking")
	return c
}

func (a *app) jsonFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "print the API's JSON")
	return c
}

// oneOf completes a flag's values.
func oneOf[S ~string](c *cobra.Command, flag string, values ...S) {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}
