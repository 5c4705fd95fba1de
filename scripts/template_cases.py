"""Templates of every construct of ggml-nvfp4/chat, one a line, for record_templates.py: (variables, templates)."""

MESSAGES = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi\n\nthere"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": [2.5, None, True]}}}]},
            {"role": "tool", "content": "3", "name": "add"}, {"role": "user", "content": [
                {"type": "text", "text": "And "}, {"type": "image"}, {"type": "text", "text": "this?"}]}]
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds \"two\" numbers <& more> é 中",
          "parameters": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": ["number", "null"]}},
                         "required": ["a"]}}}]
V = {"s": "Hello World", "u": "Straße ÉCOLE ﬁn ǆ Σίσυφος ΌΣΟΣ", "n": 7, "z": 0, "f": 2.5, "neg": -7, "t": True, "no": None,
     "e": "", "l": [3, 1, 2], "d": {"b": 1, "a": "x", "items": 5}, "ls": ["b", "A", "c"],
     "o": [{"k": "x", "v": 2, "in": {"q": 1}}, {"k": "y", "v": 1, "in": {"q": 2}}, {"k": "X", "v": 3, "in": {"q": 1}}],
     "html": "<a href='x'>&\"</a>", "lines": "one\n  two\n\nthree\n", "emoji": "a😀b中c", "big": 12345678901,
     "pad": "  x y  ", "messages": MESSAGES, "tools": TOOLS, "yes": [True, False, None, 0, 1.5, "s", [], {}]}

# Expressions: each becomes {{ expression }}.
EXPRESSIONS = r"""
1;;1_000;;0x1F;;0b101;;0o17;;1.5;;1e3;;1.5e-7;;1e20;;1e16;;1e15;;123456789.125;;0.1;;-0.0;;1e-5;;0.0001;;1.0;;100.0;;5e-324;;1.7976931348623157e308
0.1 + 0.2;;1/3;;2/1;;7//2;;-7//2;;7//-2;;7 % 3;;-7 % 3;;7 % -3;;7.5 // 2;;-7.5 // 2;;7.5 % 2;;-7.5 % 2;;2**10;;2**-1;;2**0.5;;-2**2;;2**3**2
1 + 1.0;;1 - 2;;3 * 4;;t + t;;t * 3;;true + 1;;-t;;+t;;--1;;- 5|abs;;-5|abs;;(-5)|abs;;2.0 * 3;;10 - 2 - 3;;2 + 3 * 4;;(2 + 3) * 4
1 < 2;;1 < 2 < 3;;1 < 3 < 2;;3 > 2 >= 2;;1 == 1.0;;1 == true;;0 == false;;'a' < 'b';;'a' < 'B';;[1,2] < [1,3];;(1,2) == (1,2);;[1] == (1,)
'a' == 'a' != 'b';;1 != 2;;none == none;;undef == undef2;;none == undef;;'1' == 1;;[1,[2]] == [1,[2]];;{'a':1} == {'a':1.0};;1 < 'a';;none < 1;;undef < 1
not t;;not not t;;not 1 == 2;;t and e;;e or n;;e or z or 'x';;t and n and 's';;not t or t;;t and not no;;1 in l;;4 not in l;;not 4 in l;;'b' in d;;'ell' in s
'x' not in s;;1 in undef;;undef in l;;undef in s;;1 in s;;1 in 5;;'a' in ('a','b');;l in [[3,1,2]];;none in [none];;'' in 'abc';;1.0 in l;;true in [1]
s ~ 1 ~ none ~ true ~ 1.5 ~ undef ~ l;;s ~ 'x' + 'y';;1 + 2 ~ 3;;1 ~ 2 * 3;;'a' ~ 'b' == 'ab';;'a' 'b' "c";;s + '!';;s + 1;;1 + s;;l + [4];;l + (4,);;(1,) + (2,)
s * 2;;2 * s;;[0] * 3;;s * 0;;s * -1;;'ab' * t;;none + 1;;undef + 1;;undef + 'x';;undef ~ 'x';;d + d;;1/0;;1//0;;1%0;;1.0/0;;0**-1;;s - 'a';;s / 2;;-s;;-undef;;+none
s[0];;s[-1];;s[99];;s[0:4];;s[:5];;s[6:];;s[:-6];;s[-5:];;s[::2];;s[::-1];;s[8:2:-2];;s[-1:-6:-1];;s[2:2];;s[5:2];;s[100:];;s[:100];;s[::0];;s[:none];;s['x'];;emoji[1];;emoji[-2:];;emoji[::-1];;emoji|length
l[0];;l[-1];;l[5];;l[1:];;l[:-1];;l[::-1];;l[::2];;l[-2:];;l[5:];;l[0:3:2];;l[true];;l['0'];;l[1.0];;l.0;;l.2;;l.9;;(1,2,3)[1:];;(1,2)[0];;range(5)[1:3];;range(5)[::-1]|list;;d[0:1];;undef[0];;undef[0:1];;undef.x;;no.x;;no['x'];;no.x.y;;n.x;;s.x;;n[0]
d.a;;d['a'];;d.items;;d['items'];;d.zz;;d['zz'];;d.zz.y;;d['a']['b'];;d.get('a');;d.get('q');;d.get('q', 5);;d.get('b') + 1;;d[['a']];;d[1];;{1:'x'}[1];;{1:'x'}[1.0];;{true:'x'}[1];;{'a':1}.a;;{'get':1}.get == 1;;{'get':1}['get'];;{none:1}[none];;{(1,2):3}[(1,2)]
n if t;;n if no;;n if no else 'x';;1 if 0 else 2 if 0 else 3;;(1 if t) ~ 'x';;'a' if l else 'b';;('a' if no) is undefined;;(1 if no else 2) + 1
t;;no;;l;;d;;(1,);;();;[];;{};;(1,'a');;[none, true, 1.0, 'x'];;{'a': [1, {'b': none}]};;["it's"];;['say "x"'];;['both \' and "'];;['\n\t\\'];;['é中😀'];;['\x07\x7f'];;[undef];;{1: 2, 'x': (1,)};;[[],{}];;range(3);;range(1,10,2);;range(3)|list;;range(5,0,-2)|list;;range(0)|list;;d.keys();;d.values();;d.items();;d.keys()|list;;d.items()|list;;1e400;;-1e400
'a\nb\tc\\d\'e\"f';;"x\x41\u00e9\u4e2d\U0001F600";;'\101\60';;'\q\d';;'\a\b\f\v'|length;;'{{ x }}';;'%}';;"it's";;'"';;'';;""|length;;'a' "b"|length
{'a': {'b': 1}}.a.b;;{'a': 1,};;[1,2,];;(1,2,);;1,2;;1,;;[1, 2][0];;{'x': 1}['x'];;{'a': 1, 'a': 2};;[[1, 2], [3]][0][1];;(l)[0];;(s).upper();;s.upper().lower();;'x'.upper();;5 .x;;[1].0;;{}.x;;(1).x
loop;;messages[0].role;;messages[-1].content[1].type;;messages[2].tool_calls[0].function.arguments;;messages[2]['content'];;messages|length;;messages[1:]|length;;tools[0].function.parameters.required[0];;true is true;;True;;None;;none;;False;;TRUE;;x.y.z is defined
"""
FILTERS = r"""
s|upper;;s|lower;;u|upper;;u|lower;;u|capitalize;;u|title;;s|title;;'hello wOrld-foo (bar) it\'s'|title;;s|capitalize;;n|upper;;none|upper;;undef|upper;;true|lower;;l|upper;;'ß'|upper;;'İ'|lower;;'ŉ'|upper;;'ǆ'|capitalize;;'ᾳ'|upper
pad|trim;;pad|trim|length;;'xxaxx'|trim('x');;undef|trim;;none|trim;;5|trim;;'\u00a0a\u2003'|trim;;'\x1ca\x1f'|trim;;l|trim
s|replace('o','0');;s|replace('o','0',1);;s|replace('','-');;s|replace('x','y');;5|replace(5,6);;s|replace(old='l',new='L',count=2);;s|replace('o');;'aaa'|replace('a','b',0);;none|replace('None','x');;'é'|replace('','-')
l|length;;s|length;;d|length;;undef|length;;none|length;;5|length;;e|count;;l|map('string')|length;;d.items()|length;;range(4)|length;;u|length;;()|length
l|first;;l|last;;[]|first;;[]|last;;s|first;;s|last;;d|first;;undef|first;;none|first;;l|map('string')|first;;l|map('string')|last;;5|first;;range(3)|last
l|join;;l|join(', ');;ls|join('-')|upper;;o|join('/', 'k');;o|join('/', attribute='v');;s|join('.');;d|join(',');;undef|join(',');;none|join;;[1,none,true,1.5,undef]|join('|');;o|map(attribute='k')|join(',');;l|join(5);;l|join(d=':');;[[1],{}]|join(' ')
l|sort;;l|sort(reverse=true);;l|sort(true);;ls|sort;;ls|sort(case_sensitive=true);;o|sort(attribute='v')|map(attribute='k')|list;;o|sort(attribute='k')|map(attribute='k')|list;;o|sort(attribute='k,v')|map(attribute='v')|list;;o|sort(attribute='in.q')|map(attribute='v')|list;;o|sort(attribute='in.q', reverse=true)|map(attribute='v')|list;;['b',1]|sort;;[none,1]|sort;;s|sort;;d|sort;;undef|sort;;none|sort;;[true,false,0.5]|sort;;[[2,1],[1,2]]|sort
d|dictsort;;d|dictsort(reverse=true);;{'B':1,'a':2}|dictsort;;{'B':1,'a':2}|dictsort(true);;{'B':3,'a':2}|dictsort(by='value');;{'B':3,'a':2}|dictsort(false,'value',true);;{'a':1}|dictsort(by='x');;l|dictsort;;undef|dictsort;;{1:2,'a':3}|dictsort
l|list;;s|list;;d|list;;undef|list;;none|list;;5|list;;'é😀'|list;;l|map('string')|list;;(1,2)|list
l|min;;l|max;;ls|min;;ls|max;;ls|min(true);;o|max(attribute='v');;(o|min(attribute='v')).k;;[]|min;;[]|max is undefined;;s|max;;[1,'a']|min;;d|max;;undef|min;;[1.5,1,true]|max
l|sum;;o|sum(attribute='v');;l|sum(start=10);;[]|sum;;[0.1]*3|sum;;([0.1]*3)|sum;;ls|sum;;[[1],[2]]|sum(start=[]);;undef|sum;;[true,true]|sum
l|unique|list;;['a','A','b','a']|unique|list;;['a','A']|unique(true)|list;;o|unique(attribute='k')|map(attribute='v')|list;;[1,1.0,true,'1']|unique|list;;[[1]]|unique|list;;'abca'|unique|join
l|reverse|list;;s|reverse;;d|reverse|list;;l|reverse;;5|reverse;;undef|reverse|list;;l|map('string')|reverse|join;;emoji|reverse
undef|default('x');;undef|default;;n|default('x');;none|default('x');;none|default('x',true);;''|default('x',true);;0|d(5,true);;undef.x|default('y');;d.zz|default('y');;d.zz|d(default_value=3);;no|default(boolean=true,default_value='q');;[]|default([1],true);;undef|default(none);;undef|default(1) + 1
'5'|int;;'5.9'|int;;'x'|int;;'x'|int(7);;'x'|int(default=-1);;5.9|int;;-5.9|int;;none|int;;true|int;;'0x1f'|int(base=16);;'1f'|int(0,16);;'101'|int(base=2);;' 42 '|int;;'1_000'|int;;''|int;;undef|int;;[]|int;;'1e3'|int;;'-7'|int;;'+7'|int;;'0b11'|int(0,0)
'5'|float;;'x'|float;;'x'|float(1.5);;5|float;;none|float;;true|float;;'1e3'|float;;'inf'|float;;'nan'|float;;' 2.5 '|float;;undef|float;;'1_0.5'|float;;'.5'|float;;'5.'|float;;'-inf'|float;;'0x10'|float
5|string;;none|string;;1.0|string;;l|string;;d|string;;true|string;;undef|string;;s|string|length;;5|string ~ 'x';;(5|string) + 'x'
2.5|round;;3.5|round;;2.567|round(2);;2.5|round(method='floor');;2.1|round(method='ceil');;2.567|round(1,'floor');;5|round;;1234|round(-2);;-2.5|round;;2.675|round(2);;'x'|round;;1.005|round(2)|string;;5|round(2);;2.5|round|int;;1e300|round;;0.5|round;;150|round(-2);;1234.5|round(-2)
-5|abs;;5.5|abs;;none|abs;;true|abs;;'x'|abs;;(0-5)|abs;;(0.0-2.5)|abs
s|center(21);;s|center(20)|length;;'x'|center(4);;'xy'|center(5);;'é'|center(4)~'|';;5|center(4)~'|'
lines|indent;;lines|indent(2);;lines|indent(2,true);;lines|indent(2,false,true);;lines|indent(2,true,true);;lines|indent('> ');;lines|indent(width=1,first=true,blank=true);;'a\r\nb\x0bc\u2028d'|indent(1);;''|indent;;5|indent;;'a\n'|indent;;'\n\na'|indent(2);;'a'|indent(0);;'x\ny'|indent(-1)
s|truncate(8);;s|truncate(8,true);;s|truncate(8,true,'..');;s|truncate(8,false,'..',0);;s|truncate(5,leeway=0);;s|truncate;;s|truncate(2);;'aaaaaaaaaaaaaaaaa'|truncate(6,leeway=0);;s|truncate(length=9,killwords=true,end='',leeway=0)
s|wordcount;;'it\'s a_b c-d'|wordcount;;''|wordcount;;u|wordcount
html|e;;html|escape;;html|safe;;html|safe|upper;;html|forceescape;;5|e;;none|safe;;html|safe + html;;html + html|safe;;(html|safe) ~ html;;(html|e)|e;;html|e|forceescape;;html|safe is escaped;;html is escaped;;(html|safe)|upper + '<';;(html|safe)[0] + '<';;(html|safe)[:2] + '<';;(html|safe)|trim + '<';;(html|safe).strip() + '<';;(html|safe) * 2 + '<';;(html|safe)|replace('a','b') + '<';;(html|safe)|string + '<';;(html|safe)|title + '<';;[html|safe]|join + '<';;(html|safe).upper() + '<';;(html|safe)|tojson;;(html|safe) == html
'%s-%d'|format('a',5);;'%(x)s'|format(x=1);;'%s'|format;;'%s %s'|format('a');;'%s'|format('a','b');;'%%'|format;;'%5.2f|%-5s|%05d|%+d|%x|%X|%o|%e|%g'|format(3.14159,'ab',42,5,255,255,8,12345.678,0.0001)
'%s' % 5;;'%s' % l;;'%s %s' % (1,2);;'%d' % 5.9;;'%d' % 'x';;'%5s|' % 'a';;'%-5s|' % 'a';;'%.2s' % 'abc';;'%r' % 'a';;'%c' % 65;;'%c' % 'é';;'%i' % true;;'%s' % (l,);;'%(a)s %(b)d' % d;;'%(q)s' % d;;'%s' % none;;'%s' % undef;;'x' % 5;;'x' % d;;'x' % l;;'%' % 5;;'%y' % 5;;'%*d' % (5, 3);;'%.3g' % 1234567;;'%G' % 1e-10;;'%f' % 1;;'%#x' % 255;;'% d' % 5;;'%05.1f' % -2.5;;'%x' % 2.5;;'%s%%' % 5;;'%a' % 'é';;'%ld' % 5;;'%F' % ('inf'|float);;'%-05d|' % 5;;'%+.1e' % 12345.0
l|tojson;;d|tojson;;s|tojson;;none|tojson;;true|tojson;;1.0|tojson;;1e20|tojson;;1e-7|tojson;;0.1|tojson;;html|tojson;;u|tojson;;emoji|tojson;;emoji|tojson(ensure_ascii=true);;emoji|tojson(true);;'\x00\x1f\x7f\u2028\n\r\t\b\f"\\/'|tojson;;undef|tojson;;(1,2)|tojson;;{1:2,none:3,true:4,1.5:5}|tojson;;{(1,2):3}|tojson;;d.items()|tojson;;range(2)|tojson;;tools|tojson;;tools[0]|tojson(indent=2);;tools|tojson(indent=4);;l|tojson(indent=0);;l|tojson(indent='--');;[]|tojson(indent=2);;{}|tojson(indent=2);;[[],{}]|tojson(indent=2);;d|tojson(sort_keys=true);;d|tojson(separators=(',',':'));;d|tojson(indent=2,separators=(', ',' : '));;yes|tojson;;messages|tojson;;l|map('string')|tojson;;1e400|tojson;;d|tojson(indent=none);;{'a':{'b':[1,{'c':2}]}}|tojson(indent=1);;namespace(a=1)|tojson;;{'é':'中'}|tojson(ensure_ascii=True);;big|tojson;;'</script>'|tojson
l|map('string')|join(',');;ls|map('upper')|list;;o|map(attribute='k')|list;;o|map(attribute='zz',default='-')|list;;o|map(attribute='in.q')|list;;o|map(attribute='zz')|list;;l|map('default','x')|list;;['a b']|map('replace','a','z')|list;;[[1,2],[3]]|map('first')|list;;[[1,2],[3]]|map(attribute=0)|list;;[[1,2],[3]]|map(attribute='1')|list;;l|map|list;;l|map('nofilter')|list;;[]|map('nofilter')|list;;undef|map('upper')|list;;none|map('upper')|list;;5|map('string')|list;;[' a ']|map('trim')|first;;ls|map('lower')|sort|join;;[[3,1]]|map('sort')|list;;[{'a':1}]|map('tojson')|join;;l|map(attribute='x', foo=1)|list;;['x']|map('indent', width=2, first=true)|list
l|select|list;;yes|select|list;;yes|reject|list;;l|select('odd')|list;;l|select('even')|list;;l|reject('odd')|list;;l|select('gt', 1)|list;;l|select('>=', 2)|list;;l|select('in', [1,2])|list;;l|select('equalto', 3)|list;;yes|select('string')|list;;yes|select('none')|list;;yes|reject('none')|list;;yes|select('number')|list;;l|select('divisibleby', 3)|list;;l|select('nope')|list;;ls|select('ne','b')|join;;undef|select|list;;none|select|list;;(l|select('gt', 100)) is defined;;'y' if l|select('gt', 100) else 'n';;'y' if l|select('gt', 100)|list else 'n';;(l|select)|length
o|selectattr('k')|list|length;;o|selectattr('k','equalto','x')|map(attribute='v')|list;;o|selectattr('k','==','y')|map(attribute='v')|list;;o|selectattr('zz','defined')|list;;o|selectattr('zz','undefined')|list|length;;o|rejectattr('k','eq','x')|map(attribute='v')|list;;o|selectattr('v','gt',1)|map(attribute='k')|list;;o|selectattr('in.q','eq',2)|map(attribute='k')|list;;o|selectattr('k','in',['x','y'])|list|length;;messages|selectattr('role','equalto','user')|list|length;;messages|rejectattr('role','equalto','user')|map(attribute='role')|join(',');;messages|selectattr('tool_calls','defined')|list|length;;messages|selectattr('content','string')|list|length;;o|selectattr|list;;o|rejectattr('zz')|list|length;;(messages|selectattr('role','eq','system')|first).content;;messages|selectattr('role','eq','nobody')|first is defined;;(messages|selectattr('role','eq','tool')|list)[0].name
d|items|list;;d|items;;undef|items|list;;l|items|list;;(d|items|list)[0];;{}|items|list;;d|items|first
[1,2,3,4,5]|batch(2)|list;;[1,2,3]|batch(2,0)|list;;[1,2,3,4,5]|slice(2)|list;;[1,2,3,4,5]|slice(3,'x')|list;;[]|batch(2)|list;;l|slice(0)|list
o|groupby('k')|list|length;;(o|groupby('k'))[0][0];;(o|groupby('k', case_sensitive=true))[0][0];;(o|groupby('in.q'))[0][1]|map(attribute='v')|list;;d|attr('a');;d|attr('get') is defined;;s|attr('upper') is defined;;s|attr('zz');;o[0]|attr('k') is defined
s|upper|lower|capitalize;;s|replace('l','L')|upper|length;;(s|upper)[0];;s|upper[0];;-1|abs;;(n|string)*2;;n|string * 2;;1 + '2'|int;;'a,b'.split(',')|map('upper')|join(';');;s | upper;;s|nofilter;;s|upper(5);;s|trim(1,2);;s|default(1,2,3);;l|join(',')(1)
"""
METHODS = r"""
s.upper();;s.lower();;s.title();;s.swapcase();;s.capitalize();;u.upper();;u.lower();;u.title();;u.capitalize();;u.swapcase();;u.casefold() is string;;"it's they're".title();;'ǆx'.title();;'ΑΣ'.lower();;'ΑΣ Σ'.lower()
pad.strip();;pad.lstrip();;pad.rstrip();;'xyxaxy'.strip('xy');;'xxa'.lstrip('x');;'axx'.rstrip('x');;pad.strip(none);;'\n\ta\u3000'.strip();;'ééa'.strip('é');;''.strip();;'aaa'.strip('a');;pad.strip().split()
'a,b,,c'.split(',');;'a,b,,c'.split(',',1);;' a  b '.split();;' a  b c '.split(none,1);;'a b'.split(' ');;''.split();;''.split(',');;'abc'.split('');;'aXXbXXc'.split('XX');;'a,b,c'.rsplit(',',1);;' a b  c '.rsplit(none,1);;' a b  c '.rsplit();;'a,b'.split(',')[-1];;'a,b'.split(sep=',',maxsplit=0);;'x</think>y'.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n');;'a b c'.split(maxsplit=1);;'a b c'.split(5);;'a  b'.rsplit(none,0);;'a\u3000b'.split()
s.startswith('Hello');;s.startswith('x');;s.startswith(('x','H'));;s.startswith('World',6);;s.endswith('World');;s.endswith(('d','x'));;s.startswith('');;s.startswith('lo',3,5);;s.endswith('lo',0,5);;s.startswith(5);;s.startswith(['H']);;s.startswith('',99);;e.startswith('x')
s.replace('o','0');;s.replace('o','0',1);;s.replace('','-');;s.replace('Hello','');;s.replace('o');;s.replace(1,2);;'aaa'.replace('aa','b');;'ab'.replace('','-',2);;''.replace('','x')
s.find('o');;s.find('o',5);;s.find('zz');;s.rfind('o');;s.index('W');;s.index('zz');;s.rindex('o');;emoji.find('中');;emoji.find('b');;s.count('l');;s.count('');;s.count('l',4);;'aaaa'.count('aa');;s.find('');;s.find('',99);;s.find('o',-4);;s.rfind('o',0,5);;s.find('o',none,4);;''.find('')
'-'.join(ls);;''.join(['a','b']);;','.join(l);;','.join('abc');;','.join(d);;','.join([]);;','.join(l|map('string'));;','.join(undef)
'{} {}'.format(1,'a');;'{0}{1}{0}'.format('a','b');;'{x}-{y}'.format(x=1,y=none);;'{:>5}|{:<5}|{:^5}|{:05d}'.format('a','b','c',42);;'{:.2f} {:,} {:+d} {:x} {:e} {:%}'.format(3.14159,1234567,5,255,12345.678,0.25);;'{{}}'.format();;'{'.format();;'{} {}'.format(1);;'{x}'.format();;'{!r}'.format('a');;'{:*^9}'.format('mid');;'{0[a]}'.format(d);;'{[1]}'.format(l);;'{:>{}}'.format('a',4)~'|';;'{:d}'.format('x');;'{}'.format(none);;'{}'.format(true);;'{}'.format(1.5);;'{:5}|'.format(1);;'{:5}|'.format('a');;'{:.3}'.format('abcdef');;'{:.3}'.format(3.14159);;'{:g}'.format(1e10);;'{:_}'.format(1234567);;'{:#x} {:#b} {:o}'.format(255,5,8);;'{0} {}'.format(1,2);;'{:08.2f}'.format(-3.14159);;'{:,.2f}'.format(1234567.891);;'{:5}|'.format(true);;'{!s:>4}'.format(5);;'{:}'.format(l);;'{:5}'.format(l);;'{:c}'.format(65);;'{:n}'.format(5);;'}'.format();;'{:.0f}'.format(2.5);;'{:<5}|'.format(1.5);;'{:+.1%}'.format(0.1234)
'abc'.isalpha();;'ab1'.isalnum();;'123'.isdigit();;'12.3'.isdigit();;'²'.isdigit();;'²'.isdecimal();;'½'.isnumeric();;'abc'.islower();;'ABC'.isupper();;'Ab Cd'.istitle();;'  '.isspace();;''.isspace();;''.isalpha();;'é'.isalpha();;'é'.isascii();;''.isascii();;'a_1'.isidentifier();;'1a'.isidentifier();;'a\n'.isprintable();;'aB1'.islower();;'123'.isupper();;'١'.isdigit()
'a'.center(4)~'|';;'a'.center(5,'*');;'ab'.center(5,'*');;'a'.ljust(3)~'|';;'a'.rjust(3);;'a'.ljust(3,'-');;'5'.zfill(3);;'-5'.zfill(4);;'+5'.zfill(4);;'a'.ljust(3,'xx');;'é'.rjust(3,'中');;'abc'.zfill(2);;''.zfill(2);;'a'.center(3.5)
lines.splitlines();;lines.splitlines(true);;'a\r\nb\rc\x0bd\u2028e'.splitlines();;''.splitlines();;'\n'.splitlines();;'a'.splitlines();;'a\n\nb'.splitlines()|length
'a=b=c'.partition('=');;'a=b=c'.rpartition('=');;'abc'.partition('=');;'abc'.rpartition('=');;'abc'.partition('')
'prefix_x'.removeprefix('prefix_');;'x.py'.removesuffix('.py');;'x'.removeprefix('y');;'a\tb'.expandtabs();;'a\tb'.expandtabs(4);;'abc'.encode;;s.nomethod();;s.upper;;n.upper();;none.upper();;undef.upper();;undef();;n();;s();;'x'.zfill();;s.upper(1)
d.get('a','q');;d.keys()|join(',');;d.values()|join(',');;d.items()|join(',');;d.items()|map('first')|join;;d.copy();;d.keys()|length;;'a' in d.keys();;'x' in d.values();;('a','x') in d.items();;d.get();;d.get(['x']);;{}.get('x',{}).get('y','z');;d.items()|list|first|last;;d.keys()[0];;(d.keys()|list)[0];;d.items() is sequence;;d.items() is iterable;;d.items() is mapping
l.index(1);;l.index(9);;l.count(1);;(1,2,1).count(1);;(1,2).index(2);;l.copy();;l.nomethod;;l.sort;;range(5).start;;range(2,9).stop;;range(5).count(3)
range(3)|list;;range(2,5)|list;;range(10,0,-3)|list;;range(0,3,0)|list;;range(1.5);;range('x');;range(100001)|length;;range(100000)|length;;range()|list;;range(-1)|list;;3 in range(5);;range(3) == range(3);;range(1,2,3,4)
dict(a=1,b=2);;dict({'a':1},b=2);;dict([('a',1)]);;dict(d, a=5);;dict();;namespace(a=1).a;;namespace(a=1).b;;namespace({'a':1}, b=2).a;;namespace().x is defined;;strftime_now('%d %b %Y');;strftime_now('%Y-%m-%d %H:%M:%S');;strftime_now('%A, %B %-d, %Y');;strftime_now('%a %e %j %y %I:%M %p %U %W%%');;strftime_now('%I:%M %p|%j|%y|%e|%D|%F|%T|%R|%c|%x|%X|%h|%u|%w');;strftime_now('');;strftime_now();;raise_exception('No!');;raise_exception();;joiner(',') is callable;;cycler(1,2).next();;cycler(1,2).current;;cycler();;range is callable;;dict is callable;;nothing()
"""
TESTS = r"""
undef is defined;;n is defined;;no is defined;;d.zz is defined;;d.a is defined;;d.zz is undefined;;undef is undefined;;no is none;;n is none;;undef is none;;no is not none;;d.zz is not defined;;messages[2].content is none
s is string;;n is string;;l is string;;undef is string;;d is mapping;;l is mapping;;undef is mapping;;namespace() is mapping;;l is sequence;;s is sequence;;d is sequence;;n is sequence;;(1,2) is sequence;;undef is sequence;;range(2) is sequence;;no is sequence;;l is iterable;;s is iterable;;d is iterable;;n is iterable;;no is iterable;;undef is iterable;;(l|map('string')) is iterable;;(l|map('string')) is sequence;;(l|list) is sequence
n is number;;f is number;;t is number;;s is number;;no is number;;n is integer;;f is integer;;t is integer;;f is float;;n is float;;1.0 is float;;t is boolean;;n is boolean;;no is boolean;;t is true;;t is false;;false is false;;1 is true;;0 is false;;'a' is lower;;'A' is lower;;'A' is upper;;5 is upper;;'' is lower
2 is even;;3 is even;;3 is odd;;2.0 is even;;'x' is even;;undef is odd;;9 is divisibleby 3;;9 is divisibleby(4);;9 is divisibleby 0;;-3 is odd;;t is odd
1 is eq 1;;1 is equalto(1.0);;1 is == 1;;1 is ne 2;;1 is lt 2;;1 is lessthan 2;;2 is gt 1;;2 is greaterthan 1;;1 is le 1;;1 is ge 2;;1 is in l;;5 is in l;;5 is not in l;;'a' is in 'abc';;1 is in undef;;1 is in 5;;n is sameas n;;no is sameas none;;t is sameas true;;1 is sameas true;;l is sameas l;;[1] is sameas [1];;s is escaped;;range is callable;;s is callable;;s.upper is callable;;undef is callable;;'upper' is filter;;'nope' is filter;;'odd' is test;;'nope' is test
n is defined and n > 5;;n is defined or undef;;not n is defined;;n is not defined;;n is string or n is number;;(n is number) == true;;n is number == true;;1 + 1 is odd;;(1 + 1) is even;;s|length is number;;s.upper() is string;;l[0] is odd;;-1 is odd;;n is nope;;n is defined is true;;n is divisibleby 7 and t;;'a' if n is defined else 'b';;n is in [7];;n is in (7, 8);;n is in l + [7];;n is string is none;;messages[0].role is equalto 'system';;messages[0].role is in ['system', 'user'];;n is divisibleby l[0];;d.a is string and d.b is integer;;no is none and 'x' or 'y'
"""

# Whole templates, each between lines of "=".
TEMPLATES = r"""
a {{ n }} b
======
{% if t %}yes{% else %}no{% endif %}
======
{% if no %}a{% elif z %}b{% elif n %}c{% else %}d{% endif %}
======
x
  {% if t %}
    in
  {% endif %}
y
======
x
  {%+ if t %}
    in
  {%- endif -%}
   y
======
x  {%- if t -%}  in  {%- endif -%}  y
======
x {# comment #} y {#- c -#} z
======
  {# comment #}
x
======
a {#+ keep #}
b
======
a
 {#- strip -#}
b
======
{{- n -}}
 b {{ n }}
c {{+ n }}
======
a
   {{ n }}
   {{- n }}
b
======
{% raw %}{{ x }} {% if %}{% endraw %}
after
======
a {%- raw -%}  {{ x }}  {%- endraw -%} b
======
  {% raw %}
  {{ x }}
  {% endraw %}
b
======
{% raw -%}
 x
{%- endraw +%}
b
======
{% if t +%}
 keep
{% endif %}
======
{%- if t %}


two
{%- endif %}

end

======
{% for x in l %}{{ x }},{% endfor %}
======
{% for x in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.depth }}/{{ loop.depth0 }};{% endfor %}
======
{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{% if loop.previtem is defined %}p{% endif %}{% if loop.nextitem is not defined %}e{% endif %};{% endfor %}
======
{% for x in l %}{{ loop.cycle('a','b') }}{{ loop.changed(x > 1) }}{% endfor %}
======
{% for x in [1,1,2,2,1] %}{% if loop.changed(x) %}{{ x }}{% endif %}{% endfor %}
======
{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }}{{ loop.last }};{% else %}none{% endfor %}
======
{% for x in l if x > 10 %}{{ x }}{% else %}none{% endfor %}
======
{% for x in [] %}{{ x }}{% else %}empty{% endfor %}|{% for x in undef %}{{ x }}{% else %}undefined{% endfor %}
======
{% for x in none %}{% endfor %}
======
{% for x in 5 %}{% endfor %}
======
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
======
{% for k, v in d|items %}{{ k }}={{ v }}{{ ", " if not loop.last }}{% endfor %}
======
{% for k in d %}{{ k }}{% endfor %}{% for c in emoji %}[{{ c }}]{% endfor %}
======
{% for a, b in [[1,2],[3,4]] %}{{ a }}{{ b }};{% endfor %}{% for (a, b), c in [[[1,2],3]] %}{{ a }}{{ b }}{{ c }}{% endfor %}
======
{% for a, b in [[1,2,3]] %}{% endfor %}
======
{% for a, b in [1] %}{% endfor %}
======
{% for a, in [[1]] %}{{ a }}{% endfor %}
======
{% for x in 1, 2, 3 %}{{ x }}{% endfor %}{% for x in (1,) %}{{ x }}{% endfor %}
======
{% for x in l|sort %}{{ x }}{% endfor %}{% for x in l[::-1] %}{{ x }}{% endfor %}{% for i in range(3) %}{{ i }}{% endfor %}
======
{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}
======
{% for x in l %}{% set outer = loop %}{% for y in ls %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
======
{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}
======
{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}
======
{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %}{{ x }}{% else %}e{% endfor %}
======
{% for x in l %}{% break %}{% else %}e{% endfor %}|
======
{% break %}
======
{% continue %}
======
{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
======
{% for x in l %}{{ x }}{% endfor %}{{ x }}|{{ loop }}
======
{% set x = 1 %}{% for i in l %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}
======
{% for i in l %}{% if loop.first %}{% set y = 'first' %}{% endif %}{{ y }};{% endfor %}
======
{% for i in l %}{% if i == 3 %}{% set n = 'changed' %}{% endif %}{{ n }};{% endfor %}{{ n }}
======
{% set ns = namespace(found=false, n=0) %}{% for x in l %}{% set ns.n = ns.n + x %}{% if x == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.found }}{{ ns.zz }}
======
{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}{{ ns['a'] }}
======
{% set ns = namespace(out='') %}{% for x in ls %}{% set ns.out = ns.out ~ x %}{% endfor %}{{ ns.out }}
======
{% set d.x = 1 %}
======
{% set undef.x = 1 %}
======
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, e) = [3, 4] %}{{ c }}{{ e }}{% set x = 1, 2 %}{{ x }}
======
{% set a, b = 1, 2, 3 %}
======
{% set 5 = 1 %}
======
{% set x %}block {{ n }}{% endset %}[{{ x }}]{{ x is string }}
======
{% set x | upper | replace('B', 'p') %}block {{ n }}{% endset %}{{ x }}
======
{% set x %}{% set inner = 1 %}{% endset %}{{ inner is defined }}
======
{% set ns = namespace() %}{% set ns.x %}abc{% endset %}{{ ns.x }}
======
{% if t %}{% set q = 1 %}{% endif %}{{ q }}{% if no %}{% set r = 1 %}{% endif %}{{ r is defined }}
======
{% set n = n + 1 %}{{ n }}{% set n = n * 2 %}{{ n }}
======
{% set tools = none %}{{ tools }}{% if not tools is defined %}x{% endif %}
======
{% macro m(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c='y') }}{{ m(b=5, a=6) }}{{ m() }}
======
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
======
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
======
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}{{ m() }}
======
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}
======
{% macro m(x) %}{{ x is defined }}{{ n }}{% endmacro %}{{ m() }}{{ m(1) }}
======
{% macro m(l) %}{% for x in l %}{{ x }}{% endfor %}{% endmacro %}{{ m([1, 2]) }}{{ l }}
======
{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
======
{% macro inner(x) %}<{{ x }}>{% endmacro %}{% macro outer(x) %}{{ inner(x) }}{{ inner(inner(x)) }}{% endmacro %}{{ outer(1) }}
======
{% macro m() %}
  text
{% endmacro %}
{{ m() }}
{{- m()|trim }}
======
{% macro m(x) -%}
  {{ x }}
{%- endmacro %}{{ m('a') ~ m('b') }}{{ m('c')|upper }}{{ m(1) is string }}{{ m.name }}
======
{{ m() }}{% macro m() %}x{% endmacro %}
======
{% macro m() %}{{ q }}{% endmacro %}{% set q = 1 %}{{ m() }}{% set q = 2 %}{{ m() }}
======
{% macro m() %}{% set q = 5 %}{{ q }}{% endmacro %}{{ m() }}{{ q is defined }}
======
{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}{{ m is defined }}
======
{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}body {{ n }}{% endcall %}
======
{% macro m(x) %}<{{ caller(x, 2) }}>{% endmacro %}{% call(a, b) m(1) %}{{ a }}{{ b }}{% endcall %}
======
{% macro m() %}{{ caller is defined }}{{ caller() if caller is defined }}{% endmacro %}{{ m() }}
======
{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}
======
{% call l %}x{% endcall %}
======
{% filter upper %}abc {{ s }}{% endfilter %}
======
{% filter replace('a', 'b')|upper %}aaa{% endfilter %}{% filter trim %}  x  {% endfilter %}
======
{% filter upper %}{% set w = 1 %}{% endfilter %}{{ w is defined }}
======
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}
======
{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% set a = 9 %}{% endwith %}{{ a }}
======
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}
======
{% generation %}answer {{ n }}{% endgeneration %}
======
{% for m in messages %}{% generation %}
{{ loop.index }}
{% endgeneration %}
{% endfor %}
======
{% generation %}{% set q = 1 %}{% endgeneration %}{{ q is defined }}
======
{% print n, s %}{% print 1 %}
======
{{ n, s }}{{ (n) }}{{ 1, }}
======
{% if n, %}tuple{% endif %}{% if (1 if t else 0) %}x{% endif %}
======
{% if undef %}a{% else %}b{% endif %}{% if undef.x %}c{% endif %}
======
{{ '{{' }}{{ '%}' }}{{ "}}" }}{{ {'a': {'b': 1}}['a'] }}{{ {} }}
======
{{ {'a': [1, (2, {'b': 3})]}.a[1][1].b }}
======
{% set x = {'a': 1,
  'b': [1,
2]} %}{{ x }}
======
{{ 'a
b' }}
======
{{ s
 | upper
 }}
======
{% for m in messages %}{{ m.role }}:{{ m.content if m.content is string else m.content|tojson }}
{% endfor %}
======
{% for m in messages %}{%- if m.role == 'user' %}
U: {{ m['content'] }}
{%- elif m.role == 'assistant' and m.tool_calls %}
{%- for c in m.tool_calls %}
C: {{ c.function.name }}({% for k, v in c.function.arguments|items %}{{ k }}={{ v|tojson }}{% if not loop.last %}, {% endif %}{% endfor %})
{%- endfor %}
{%- endif %}
{%- endfor %}

======
{{ raise_exception('Conversation roles must alternate') }}
======
{% if messages[0].role == 'user' %}{{ raise_exception('x') }}{% endif %}ok
======
{% set j = joiner(', ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.reset() }}{{ c.next() }}
======
{% set q = l|map('string') %}{{ q|join }}{{ q|join }}|{{ q|list }}
======
{% set q = l|select('gt', 1) %}{% for x in q %}{{ x }}{{ loop.length }}{{ loop.last }}{% endfor %}{% for x in q %}again{% endfor %}
======
{% set ns = namespace(stop=false) %}{% for x in l if not ns.stop %}{{ x }}{% set ns.stop = true %}{% endfor %}
======
{% set ns = namespace(stop=false) %}{% for x in l if not ns.stop %}{{ x }}{{ loop.last }}{% set ns.stop = true %}{% endfor %}
======
{% for x in l if x != 1 %}{{ loop.index }}{% if loop.first %}f{% endif %}{{ loop.nextitem }}{{ loop.revindex }};{% endfor %}
======
{% set q = messages[1:] %}{% for m in q %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ 'odd' }}{% endif %}{% endfor %}
======
{{ "a" if n is defined and n > 3 and not no else "b" }}{{ 'x' * 3 }}{{ 'ab'[::-1] * 2 }}
======
{{ (messages|last).content|selectattr('type', 'equalto', 'text')|map(attribute='text')|join }}
======
{%- set f = messages|selectattr('role', 'equalto', 'system')|list %}{{ f|length }}{{ f[0].content|trim }}
======
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}{{ loop_messages|length }}
======
{{ '%s' % messages[0].content }}{{ '%s: %s' % ('a', 1) }}{{ '{} {}'.format(1, 2) }}
======
{{ m(*[1, 2]) if m is defined }}{% macro q(a, b, c=0) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ q(*[1, 2]) }}{{ q(*[1], **{'b': 5, 'c': 6}) }}{{ dict(**{'a': 1}) }}
======
{% set x = namespace(a=[]) %}{{ x.a + [1] }}{{ x }}
======
{{ x
======
{% if t %}
======
{% endif %}
======
{% for x in l %}{% endif %}
======
{% nope %}
======
{{ 1 + }}
======
{{ (1 }}
======
{{ [1, 2 }}
======
{{ 'abc }}
======
{# abc
======
{% raw %} abc
======
{{ a b }}
======
{{ a.5b }}{{ . }}
======
{{ @ }}
======
{% set = 5 %}
======
{% for in l %}{% endfor %}
======
{% macro %}{% endmacro %}
======
{% macro m(a=1, b) %}{% endmacro %}
======
{{ f(a=1, 2) }}
======
{{ }}
======
{% %}
======
{% if %}{% endif %}
======
{{ x is }}
======
{{ x | }}
======
{{ 07 }}
======
{{ ] }}
======
{% include 'x' %}
======
{% elif x %}
======
{%- for m in messages -%}
    {%- if loop.first and m.role != 'system' -%}
        default
    {%- endif -%}
    {{- '<|' + m.role + '|>' + '\n' -}}
{%- endfor -%}
======
<tab>{% if t %}
<tab>tab
<tab>{% endif %}
{{ 'x' }}
 <tab>{%- set y = 1 %} z
======
line1\r
line2
======
{%- if t -%} a {%- else -%} b {%- endif +%} c
======
{% if t %}<blank><blank><blank>
x{% endif %}<blank><blank><blank>
y
======
{{ n }}<blank><blank><blank>
{% if t %}z{% endif %}

======
a{% if t %}

b{% endif %}

======
{%if t%}x{%endif%}{{n}}{%for x in l%}{{x}}{%endfor%}
======
{% if t: %}colon{% endif %}
======
{{ "\u00e9" }}{{ 'é' }}é😀 {{ {'é': 1}.é }}
======
{% set é = 1 %}{{ é }}
======
{% set x = 'a' %}{% set x = x ~ 'b' %}{% set x = x ~ 'c' %}{{ x }}
======
{% if no %}{{ x|nofilter }}{{ x is notest }}{% endif %}ok
======
{% if no %}{% for x in l %}{{ x|nofilter }}{% endfor %}{% endif %}ok
======
{{ (x|nofilter) if no else 'ok' }}
======
{{ 'ok' if t else (x|nofilter) }}
======
{{ 'ok' if t or x is notest }}
======
{{ x|nofilter ~ ('a' if t) }}
======
{% if t %}{{ x|nofilter }}{% endif %}
======
{% if no %}a{% elif x|nofilter %}{% else %}{{ x is notest }}{% endif %}
======
{% if no %}{% set q = x|nofilter %}{% endif %}ok
======
{% if no %}{% set q %}{{ x|nofilter }}{% endset %}{% endif %}ok
======
{% for x in l if x|nofilter %}{% endfor %}
======
{% set content %}
  a
  {{ n }}
{% endset %}
[{{ content }}]
"""

# Methods that change a value: Transformers' sandbox refuses them, this engine runs them.
MUTABLE = r"""
{% set q = [] %}{{ q.append(1) }}{{ q }}{% set _ = q.append(2) %}{{ q }}{% set _ = q.extend([3, 4]) %}{{ q.pop() }}{{ q.pop(0) }}{{ q }}
======
{% set q = [3, 1] %}{% set _ = q.insert(0, 9) %}{{ q }}{% set _ = q.insert(-1, 8) %}{{ q }}{% set _ = q.remove(9) %}{{ q }}{% set _ = q.reverse() %}{{ q }}{% set _ = q.clear() %}{{ q }}
======
{% set q = {} %}{% set _ = q.update({'a': 1}) %}{{ q }}{% set _ = q.update(b=2) %}{{ q.pop('a') }}{{ q }}{{ q.setdefault('c', 5) }}{{ q.setdefault('c', 6) }}{{ q }}{{ q.pop('zz', 'no') }}
======
{{ [].pop() }}
======
{{ {}.pop('a') }}
======
{% set ns = namespace(l=[]) %}{% for x in l %}{% set _ = ns.l.append(x * 2) %}{% endfor %}{{ ns.l }}{{ l }}
======
{% set q = [1] %}{% for x in q %}{{ x }}{% if x < 4 %}{% set _ = q.append(x + 1) %}{% endif %}{% endfor %}
======
{% set q = d.copy() %}{% set _ = q.update({'b': 2}) %}{{ q.b }}{{ d.b }}{% set _ = q.clear() %}{{ q }}
======
{% set a = [1] %}{% set b = a %}{% set _ = b.append(2) %}{{ a }}{% set c = a + [] %}{% set _ = c.append(3) %}{{ a }}{{ c }}
"""


def plain(template):
    """Without what stands for white space that editors remove."""
    for escape, character in (("\\r", "\r"), ("<tab>", "\t"), ("<blank>", " ")):
        template = template.replace(escape, character)
    return template


def all_cases():
    cases = []
    for text in (EXPRESSIONS, FILTERS, METHODS, TESTS):
        for expression in text.strip().replace("\n", ";;").split(";;"):
            cases.append({"template": "{{ %s }}" % expression, "variables": V})
    for text, mutable in ((TEMPLATES, False), (MUTABLE, True)):
        for template in text[1:-1].split("\n======\n"):
            case = {"template": plain(template), "variables": V}
            cases.append({**case, "mutable": True} if mutable else case)
    return cases
