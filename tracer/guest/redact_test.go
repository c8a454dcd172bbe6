package guest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRedactOption(t *testing.T) {
	for _, c := range []struct{ option, value, want string }{
		{"-object", "secret,id=s0,data=hunter2", "secret,id=s0,data=[redacted]"},
		{"-object", "secret,id=s0,data=hunt,er2", "secret,id=s0,data=[redacted],[redacted]"},
		{"-object", "secret,id=s0,data=hunt,,er2,format=raw", "secret,id=s0,data=[redacted],format=raw"},
		{"-object", "secret,id=s0,keyid=m,iv=AAAA,file=/run/key", "secret,id=s0,keyid=m,iv=AAAA,file=/run/key"},
		{"-object", `{"qom-type":"secret","id":"s0","data":"hunter2","keyid":"m"}`, `{"qom-type":"secret","id":"s0","data":"[redacted]","keyid":"m"}`},
		{"-object", `{"qom-type":"secret","data":"hunter2"`, "[redacted]"},
		{"-object", `{"qom-type":"secret"} hunter2`, "[redacted]"},
		{"-object", `{'qom-type':'secret','data':'hunt"er2'}`, `{"qom-type":"secret","data":"[redacted]"}`},
		{"-object", "tls-creds-x509,id=t,dir=/etc/pki,passwordid=s0", "tls-creds-x509,id=t,dir=/etc/pki,passwordid=s0"},
		{"-vnc", ":2,password", ":2,password"},
		{"-vnc", ":2,password=on", ":2,password=on"},
		{"-vnc", ":2,password=hunter2", ":2,password=[redacted]"},
		{"-spice", "port=5900,password=hunter2,disable-ticketing", "port=5900,password=[redacted],disable-ticketing"},
		{"-spice", "port=5900,password=on", "port=5900,password=[redacted]"},
		{"-iscsi", "initiator-name=iqn.x,user=u,password=hunter2", "initiator-name=iqn.x,user=u,password=[redacted]"},
		{"-drive", "file=iscsi://u%hunter2@h/t/1,if=none", "file=iscsi://[redacted]@h/t/1,if=none"},
		{"-drive", "file=https://u:hunt/er2@h/x.iso?sig=hunter2,if=none", "file=https://[redacted]@h/x.iso?[redacted],if=none"},
		{"-drive", "file=nbd+unix:///x?socket=/run/s", "file=nbd+unix:///x?socket=/run/s"},
		{"-drive", `file=rbd:p/i:id=a:key=hunt\:er2==:mon_host=m\:6789`, `file=rbd:p/i:id=a:key=[redacted]:mon_host=m\:6789`},
		{"-drive", `file=json:{"driver":"https",,"url":"https://u:hunter2@h/"},if=none`, `file=json:{"driver":"https",,"url":"https://[redacted]@h/"},if=none`},
		{"-drive", "file=/dev/vg/key=x://a@b,if=none", "file=/dev/vg/key=x://a@b,if=none"},
		{"-drive", "file=/dev/vg/lv,encrypt.key-secret=sec0,password-secret=s1", "file=/dev/vg/lv,encrypt.key-secret=sec0,password-secret=s1"},
		{"-drive", "file.driver=https,file.cookie=hunter2", "file.driver=https,file.cookie=[redacted]"},
		{"-blockdev", `{"driver":"ssh","password":["hunter2",{"x":7}],"n":1}`, `{"driver":"ssh","password":["[redacted]",{"x":"[redacted]"}],"n":1}`},
		{"-blockdev", `{"filename":"json:{\"password\":\"hunter2\"}"}`, `{"filename":"json:{\"password\":\"[redacted]\"}"}`},
		{"-hda", "http://u:hunter2@h/x", "http://[redacted]@h/x"},
		{"-hda", "/dev/vg/a,password=b", "/dev/vg/a,password=b"},
		{"-append", "root=/dev/vda1 pw=hunter2", "[redacted]"},
		{"-fw_cfg", "name=opt/x,string=hunter2,foo", "name=opt/x,string=[redacted],[redacted]"},
		{"-fw_cfg", "opt/x,file=/etc/x", "opt/x,file=/etc/x"},
		{"-smbios", "type=11,value=io.systemd.credential:x=hunter2", "type=11,value=[redacted]"},
		{"-smbios", "type=1,serial=ds=nocloud;s=http://u:hunter2@h/,uuid=1", "type=1,serial=ds=nocloud;s=http://[redacted]@h/,uuid=1"},
		{"-incoming", "exec: nc -k hunter2", "exec:[redacted]"},
		{"-incoming", "tcp:0:4444", "tcp:0:4444"},
		{"-incoming", `{"channel-type":"main","addr":{"transport":"exec","args":["hunter2"]}}`, "[redacted]"},
		{"-netdev", "user,id=n,guestfwd=tcp:10.0.2.9:1-cmd:auth hunter2", "user,id=n,guestfwd=tcp:10.0.2.9:1-cmd:[redacted]"},
		{"-device", "isa-applesmc,osk=hunter2", "isa-applesmc,osk=[redacted]"},
		{"-global", "isa-applesmc.osk=hunt,er2", "isa-applesmc.osk=[redacted]"},
		{"-global", "driver=isa-applesmc,property=osk,value=hunter2", "driver=isa-applesmc,property=osk,value=[redacted]"},
		{"-set", "device.smc.osk=hunt,er2", "device.smc.osk=[redacted]"},
		{"-future", "password=hunter2", "password=[redacted]"},
		{"-name", "guest=vm1,debug-threads=on", "guest=vm1,debug-threads=on"},
	} {
		args := []string{"qemu-system-x86_64", c.option, c.value}
		before := strings.Clone(c.value)
		got := Redact(args)[2]
		if got != c.want {
			t.Errorf("%s %s\n got %s\nwant %s", c.option, c.value, got, c.want)
		}
		if args[2] != before {
			t.Errorf("%s: the argument list itself was changed", c.option)
		}
		checkRedaction(t, Parser{}, args)
	}
}

func TestRedactCommand(t *testing.T) {
	for _, c := range []struct{ args, want []string }{
		{[]string{"lvchange", "-ay", "vg/lv"}, []string{"lvchange", "-ay", "vg/lv"}},
		{[]string{"dmsetup", "create", "c", "--table", "0 2048 crypt aes-xts-plain64 hunter2 0 /dev/sda 0"},
			[]string{"dmsetup", "create", "c", "--table", "0 2048 crypt aes-xts-plain64 [redacted] 0 /dev/sda 0"}},
		{[]string{"dmsetup", "create", "c", "--table=0 2048 crypt aes hunter2 0 /dev/sda 0"},
			[]string{"dmsetup", "create", "c", "--table=0 2048 crypt aes [redacted] 0 /dev/sda 0"}},
		{[]string{"dmsetup", "create", "--concise", "c,,,rw,0 2048 crypt aes hunter2 0 /dev/sda 0"},
			[]string{"dmsetup", "create", "--concise", "c,,,rw,0 2048 crypt aes [redacted] 0 /dev/sda 0"}},
		{[]string{"dmsetup", "load", "c", "0", "2048", "crypt", "aes", "hunter2"},
			[]string{"dmsetup", "load", "c", "0", "2048", "crypt", "aes", "[redacted]"}},
		{[]string{"dmsetup", "create", "c", "--table", "0 2048 crypt aes :32:logon:cryptsetup:x 0 /dev/sda 0"},
			[]string{"dmsetup", "create", "c", "--table", "0 2048 crypt aes :32:logon:cryptsetup:x 0 /dev/sda 0"}},
		{[]string{"dmsetup", "create", "l", "--table", "0 2048 linear /dev/sda 0"},
			[]string{"dmsetup", "create", "l", "--table", "0 2048 linear /dev/sda 0"}},
		{[]string{"dmsetup", "create", "i", "--table", "0 8 integrity /dev/sda 0 32 J 1 internal_hash:hmac(sha256):hunter2"},
			[]string{"dmsetup", "create", "i", "--table", "0 8 integrity /dev/sda 0 32 J 1 internal_hash:hmac(sha256):[redacted]"}},
		{[]string{"dmsetup", "message", "c", "0", "key", "set", "hunter2"}, []string{"dmsetup", "message", "c", "0", "key", "set", "[redacted]"}},
		{[]string{"dmsetup", "message", "c", "0", "key set hunter2"}, []string{"dmsetup", "message", "c", "0", "key set [redacted]"}},
		{[]string{"cryptsetup", "open", "--key-file", "/run/k", "--key-size=512", "/dev/vg/lv", "x"},
			[]string{"cryptsetup", "open", "--key-file", "/run/k", "--key-size=512", "/dev/vg/lv", "x"}},
		{[]string{"agent", "--password", "hunter2", "--token=hunter2", "DB_PASSWORD=hunter2", "--api-key", "hunter2"},
			[]string{"agent", "--password", "[redacted]", "--token=[redacted]", "DB_PASSWORD=[redacted]", "--api-key", "[redacted]"}},
		{[]string{"/bin/sh", "-c", "echo hunter2 | cryptsetup open /dev/vg/lv x"}, []string{"/bin/sh", "-c", "[redacted]"}},
		{[]string{"sh", "-c", "vgchange -ay  vg"}, []string{"sh", "-c", "vgchange -ay  vg"}},
		{[]string{"sh", "-ec", "mount -o x http://u:hunter2@h/"}, []string{"sh", "-ec", "mount -o x http://[redacted]@h/"}},
		{[]string{"qemu-img", "info", "--object", "secret,id=s,data=hunter2", "json:{\"password\":\"hunter2\"}"},
			[]string{"qemu-img", "info", "--object", "secret,id=s,data=[redacted]", "json:{\"password\":\"[redacted]\"}"}},
		{[]string{"python3", "agent.py", `{ "password": "hunter2" }`}, []string{"python3", "agent.py", `{ "password": "[redacted]" }`}},
		{[]string{"/usr/libexec/qemu-kvm", "-append", "hunter2"}, []string{"/usr/libexec/qemu-kvm", "-append", "[redacted]"}},
		{nil, nil},
	} {
		got := RedactCommand(c.args)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.args, diff)
		}
		if diff := cmp.Diff(got, RedactCommand(got)); diff != "" {
			t.Errorf("%q: RedactCommand changes its own result:\n%s", c.args, diff)
		}
	}
}
