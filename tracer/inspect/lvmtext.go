package inspect

import (
	"errors"
	"strconv"
)

// lvmNode is a section of LVM's metadata text: numbers, texts and lists by name,
// and sections within. The grammar is that of lvm.conf (libdm-config.c).
type lvmNode struct {
	names    []string // of the sections, in order
	sections map[string]*lvmNode
	values   map[string][]lvmValue
}

// lvmValue is a text or a number.
type lvmValue struct {
	text   string
	number int64
	isText bool
}

// Bounds on a metadata text. A group of a thousand volumes has some 20,000 values.
const (
	lvmMostValues = 200_000
	lvmMostDepth  = 8
)

var errLVMText = errors.New("the metadata text is not well formed")

// parseLVM reads a metadata text.
func parseLVM(raw []byte) (*lvmNode, error) {
	p := &lvmParser{in: raw}
	root, err := p.section(0, true)
	if err != nil {
		return nil, err
	}
	return root, nil
}

type lvmParser struct {
	in     []byte
	at     int
	values int
}

// skip goes over white space and comments, and returns the next byte, 0 at the
// end.
func (p *lvmParser) skip() byte {
	for p.at < len(p.in) {
		switch c := p.in[p.at]; c {
		case '#':
			for p.at < len(p.in) && p.in[p.at] != '\n' {
				p.at++
			}
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return c // 0 ends the text, too
		}
	}
	return 0
}

func (p *lvmParser) section(depth int, top bool) (*lvmNode, error) {
	n := &lvmNode{sections: map[string]*lvmNode{}, values: map[string][]lvmValue{}}
	if depth > lvmMostDepth {
		return nil, errLVMText
	}
	for {
		c := p.skip()
		switch {
		case c == 0 && top:
			return n, nil
		case c == '}' && !top:
			p.at++
			return n, nil
		}
		name := p.word()
		if p.values++; name == "" || p.values > lvmMostValues {
			return nil, errLVMText
		}
		switch p.skip() {
		case '{':
			p.at++
			in, err := p.section(depth+1, false)
			if err != nil {
				return nil, err
			}
			if n.sections[name] == nil {
				n.names = append(n.names, name)
			}
			n.sections[name] = in
		case '=':
			p.at++
			list, err := p.value()
			if err != nil {
				return nil, err
			}
			n.values[name] = list
		default:
			return nil, errLVMText
		}
	}
}

// word reads a name.
func (p *lvmParser) word() string {
	start := p.at
	for p.at < len(p.in) {
		switch c := p.in[p.at]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '.', c == '+', c == '/':
			p.at++
			continue
		}
		break
	}
	return string(p.in[start:p.at])
}

func (p *lvmParser) value() ([]lvmValue, error) {
	if p.skip() != '[' {
		v, err := p.single()
		return []lvmValue{v}, err
	}
	p.at++
	list := []lvmValue{}
	for {
		switch p.skip() {
		case ']':
			p.at++
			return list, nil
		case ',':
			p.at++
			continue
		}
		v, err := p.single()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
}

func (p *lvmParser) single() (lvmValue, error) {
	if p.values++; p.values > lvmMostValues {
		return lvmValue{}, errLVMText
	}
	if p.skip() != '"' {
		n, err := strconv.ParseInt(p.word(), 10, 64)
		if err != nil {
			return lvmValue{}, errLVMText
		}
		return lvmValue{number: n}, nil
	}
	var out []byte
	for p.at++; p.at < len(p.in); p.at++ {
		switch c := p.in[p.at]; c {
		case '"':
			p.at++
			return lvmValue{text: string(out), isText: true}, nil
		case '\\':
			p.at++
			if p.at < len(p.in) {
				out = append(out, p.in[p.at])
			}
		default:
			out = append(out, c)
		}
	}
	return lvmValue{}, errLVMText
}

func (n *lvmNode) text(name string) string {
	if v := n.values[name]; len(v) == 1 {
		return v[0].text
	}
	return ""
}

// number returns a number, -1 where there is none or it is negative.
func (n *lvmNode) number(name string) int64 {
	if v := n.values[name]; len(v) == 1 && !v[0].isText && v[0].number >= 0 {
		return v[0].number
	}
	return -1
}

func (n *lvmNode) section(name string) *lvmNode {
	if s := n.sections[name]; s != nil {
		return s
	}
	return &lvmNode{}
}

func (n *lvmNode) has(name, flag string) bool {
	for _, v := range n.values[name] {
		if v.text == flag {
			return true
		}
	}
	return false
}
