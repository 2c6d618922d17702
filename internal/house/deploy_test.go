package house

import (
	"path/filepath"
	"testing"

	"github.com/touchmark/touchmark/server"
)

func TestSampleConfiguration(t *testing.T) {
	if _, err := server.LoadConfig(filepath.Join("..", "..", "deploy", "touchmark.yaml")); err != nil {
		t.Error(err)
	}
}
