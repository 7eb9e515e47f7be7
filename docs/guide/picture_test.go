package guide_test

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every package and every file that the picture of the architecture names exists.
func TestPictureNamesWhatExists(t *testing.T) {
	var picture struct {
		Texts []struct {
			Class string `xml:"class,attr"`
			Name  string `xml:",chardata"`
		} `xml:"text"`
	}
	if err := xml.Unmarshal([]byte(read(t, root+"/docs/architecture.svg")[0]), &picture); err != nil {
		t.Fatal(err)
	}
	packages := 0
	for _, text := range picture.Texts {
		classes := strings.Fields(text.Class)
		switch {
		case slices.Contains(classes, "package"):
			packages++
			if files, err := filepath.Glob(filepath.Join(root, text.Name, "*.go")); err != nil || len(files) == 0 {
				t.Errorf("the picture names package %s, which has no Go files", text.Name)
			}
		case slices.Contains(classes, "file"):
			if _, err := os.Stat(filepath.Join(root, text.Name)); err != nil {
				t.Errorf("the picture names a file that is not there: %v", err)
			}
		}
	}
	if packages < 5 {
		t.Errorf("only %d packages were found in the picture", packages)
	}
}
