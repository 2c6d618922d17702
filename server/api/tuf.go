package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/tuf"
	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/access"
)

// TUF is the installation's TUF repository. Refusals are *vetting.Errors; a
// *repository.KeyError says that a key cannot sign at the moment, and that
// nothing was changed.
type TUF interface {
	TUFRepository(context.Context) (*TUFRepository, error)
	// CreateTUFKey makes a key of an online role in the installation's key
	// store. Its number must be the role's next.
	CreateTUFKey(ctx context.Context, act access.Act, role repository.Role, number int, kind string) (*repository.Key, error)
	// ImportTUFRoot takes a signed root, and has all metadata made anew below
	// it. The newest root again changes nothing.
	ImportTUFRoot(ctx context.Context, by string, root []byte) error
}

// TUFRepository is the state of the repository.
type TUFRepository struct {
	Root    *TUFRoot  `json:"root,omitempty" doc:"The root in force; absent until one was imported"`
	Files   []TUFFile `json:"files" nullable:"false" doc:"The newest targets, snapshot and timestamp"`
	Keys    []*TUFKey `json:"keys" nullable:"false" doc:"The installation's keys for those roles; those count that the root names"`
	Problem string    `json:"problem,omitempty" doc:"Why metadata cannot be made at the moment; absent if it can"`
}

// TUFRoot is a root.
type TUFRoot struct {
	Version int       `json:"version" doc:"Its version"`
	Expires time.Time `json:"expires" doc:"When it runs out"`
	Content []byte    `json:"content" doc:"The file, in base64"`
}

// TUFKey is a key of an online role.
type TUFKey repository.Key

// TUFFile is the newest file of a role.
type TUFFile struct {
	Role    repository.Role `json:"role" enum:"targets,snapshot,timestamp" doc:"What it is"`
	Version int             `json:"version" doc:"Its version"`
	Expires time.Time       `json:"expires" doc:"When it runs out; it is made anew long before"`
}

// TUFKeyInput is a key to be made.
type TUFKeyInput struct {
	Role   repository.Role `json:"role" enum:"targets,snapshot,timestamp" doc:"What it signs"`
	Number int             `json:"number" minimum:"1" maximum:"9999" doc:"Which of the role's keys it is: the next, counted from 1"`
	Kind   string          `json:"kind" enum:"P-256,Ed25519" doc:"What kind of key it is"`
}

// TUFRootInput is a signed root.
type TUFRootInput struct {
	Content []byte `json:"content" minLength:"1" doc:"The file, in base64"`
}

// maxTUFRootBody bounds a request with a root, which base64 makes longer.
const maxTUFRootBody = tuf.MaxRoot/3*4 + 1024

func (a *API) tuf() {
	register(a, access.ReadReleases, operation{
		id: "getTUFRepository", method: http.MethodGet, path: "/tuf", tag: tagFirmware,
		summary:     "Show the TUF repository",
		description: "Its metadata is served to everybody below /tuf/, on this listener and that for statuses.",
	}, func(ctx context.Context, _ *call, _ *struct{}) (*bodyOutput[TUFRepository], error) {
		return answer(a.config.TUF.TUFRepository(ctx))
	})
	register(a, access.ManageFirmwareKeys, operation{
		id: "createTUFKey", method: http.MethodPost, path: "/tuf/keys", tag: tagFirmware, status: http.StatusCreated, errors: []int{503},
		summary:     "Make a key that signs metadata of the TUF repository",
		description: "In the server's key store, which it never leaves. It signs as soon as a root names it.",
	}, func(ctx context.Context, c *call, in *bodyOf[TUFKeyInput]) (*bodyOutput[TUFKey], error) {
		k, err := a.config.TUF.CreateTUFKey(ctx, c.act, in.Body.Role, in.Body.Number, in.Body.Kind)
		return answer((*TUFKey)(k), a.tufProblem(ctx, err))
	})
	register(a, access.ManageFirmwareKeys, operation{
		id: "importTUFRoot", method: http.MethodPost, path: "/tuf/roots", tag: tagFirmware, maxBody: maxTUFRootBody, errors: []int{503},
		summary:     "Take in a root of the TUF repository",
		description: "Its version is the next, as many of its keys have signed it as it demands, and as many of those of the root before. All metadata is made anew below it. The newest root again changes nothing.",
	}, func(ctx context.Context, c *call, in *bodyOf[TUFRootInput]) (*bodyOutput[TUFRepository], error) {
		if err := a.config.TUF.ImportTUFRoot(ctx, "operator:"+c.act.Operator, in.Body.Content); err != nil {
			return nil, a.tufProblem(ctx, err)
		}
		return answer(a.config.TUF.TUFRepository(ctx))
	})
}

// tufProblem is what the client is told of a key that cannot sign.
func (a *API) tufProblem(ctx context.Context, err error) error {
	var key *repository.KeyError
	if !errors.As(err, &key) {
		return err
	}
	a.config.Log.ErrorContext(ctx, "TUF metadata was not signed", "error", key)
	return later(problem(http.StatusServiceUnavailable, "the server cannot use its TUF key for %s at the moment, and has changed nothing: send the request again; the server's log tells why", key.Role), keyRetry)
}
