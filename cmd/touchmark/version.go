package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what this program was built from.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Changed bool   `json:"changed,omitempty"` // with changes that were not committed
	Go      string `json:"go"`
	Target  string `json:"target"`
	Tags    string `json:"tags,omitempty"`
	Cgo     bool   `json:"cgo"`
}

func readBuild() build {
	b := build{Version: version, Commit: commit, Go: runtime.Version(), Target: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value // of the sources at hand, if there is a repository
		case "vcs.modified":
			b.Changed = s.Value == "true"
		case "-tags":
			b.Tags = s.Value
		case "CGO_ENABLED":
			b.Cgo = s.Value == "1"
		}
	}
	return b
}

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print what this program was built from", Args: cobra.NoArgs}
	c.RunE = func(*cobra.Command, []string) error {
		b := readBuild()
		raw, err := json.Marshal(b)
		if err != nil {
			return err
		}
		return a.print(raw, func(w io.Writer) {
			fmt.Fprintf(w, "touchmark %s\n", b.Version)
			field(w, "commit", b.Commit)
			field(w, "go", b.Go+" "+b.Target)
			field(w, "tags", b.Tags)
			field(w, "cgo", b.Cgo)
		})
	}
	return a.jsonFlag(c)
}
