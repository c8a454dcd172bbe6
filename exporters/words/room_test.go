package words

import (
	"strings"
	"testing"
)

func TestBoundedParagraph(t *testing.T) {
	var p Paragraph
	p.Say(strings.Repeat("word ", 5000), Plain)
	if got := p.Bounded(); len(got.Words) > maxWords+10 || !strings.HasSuffix(got.String(), " ... and 4000 words more") {
		t.Errorf("%d words, the last are %q", len(got.Words), got.String()[len(got.String())-60:])
	}
}
