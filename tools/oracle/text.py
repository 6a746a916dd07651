#!/usr/bin/env python3
"""Goldens of core/text: ids by Hugging Face's tokenizers, chat texts by transformers.

    python tools/oracle/text.py [MODELS]        MODELS: the folder that holds smollm2.gguf (tools/models/get smollm2)

Writes tests/golden/text/: three small tokenizers trained here on the texts below, with exactly the pre-tokenizers of their families, the
ids of the golden texts for them and for smollm2's tokenizer rebuilt from its GGUF metadata, and rendered chats.
Malformed bytes, which tokenizers cannot be given, have a definition of our own: a run of them is one word in the byte alphabet.
Needs: tokenizers, transformers, gguf.  Version of the golden format: 1."""
import json
import os
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden", "text")
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

SCRIPTS = [
    "The quick brown fox doesn't jump over lazy dogs; it's 12:45, they've gone and we'll see.",  # Latin
    "Съешь же ещё этих мягких французских булок, да выпей чаю 2024.",  # Cyrillic
    "Το νερό είναι ζωή και το φως είναι ελπίδα.",  # Greek
    "الماء هو الحياة والنور هو الأمل ١٢٣.",  # Arabic
    "המים הם החיים והאור הוא תקווה.",  # Hebrew
    "पानी जीवन है और प्रकाश आशा है १२३।",  # Devanagari
    "জল জীবন এবং আলো আশা।",  # Bengali
    "ਪਾਣੀ ਜੀਵਨ ਹੈ ਅਤੇ ਰੌਸ਼ਨੀ ਆਸ ਹੈ।",  # Gurmukhi
    "પાણી જીવન છે અને પ્રકાશ આશા છે.",  # Gujarati
    "நீர் உயிர், ஒளி நம்பிக்கை.",  # Tamil
    "నీరు జీవితం, వెలుగు ఆశ.",  # Telugu
    "ನೀರು ಜೀವನ, ಬೆಳಕು ಭರವಸೆ.",  # Kannada
    "വെള്ളം ജീവനാണ്, വെളിച്ചം പ്രതീക്ഷയാണ്.",  # Malayalam
    "ජලය ජීවිතයයි, ආලෝකය බලාපොරොත්තුවයි.",  # Sinhala
    "น้ำคือชีวิตและแสงคือความหวัง ๑๒๓",  # Thai
    "ນ້ຳແມ່ນຊີວິດ ແລະ ແສງສະຫວ່າງແມ່ນຄວາມຫວັງ",  # Lao
    "ရေသည် အသက်ဖြစ်ပြီး အလင်းသည် မျှော်လင့်ချက်ဖြစ်သည်။",  # Myanmar
    "ទឹកគឺជាជីវិត ហើយពន្លឺគឺជាក្តីសង្ឃឹម។",  # Khmer
    "ཆུ་ནི་ཚེ་སྲོག་ཡིན། འོད་ནི་རེ་བ་ཡིན།",  # Tibetan
    "წყალი სიცოცხლეა და სინათლე იმედია.",  # Georgian
    "Ջուրը կյանք է, իսկ լույսը՝ հույս։",  # Armenian
    "ውሃ ሕይወት ነው፤ ብርሃንም ተስፋ ነው።",  # Ethiopic
    "水是生命,光是希望。共 123 字。",  # Han
    "水は命、ひかりは希望。カタカナもあるよ。",  # Kana
    "물은 생명이고 빛은 희망이다.",  # Hangul
    "ᠤᠰᠤ ᠪᠣᠯ ᠠᠮᠢᠳᠤᠷᠠᠯ᠎ᠠ",  # Mongolian, with U+180E
    "ᏗᎦᎳᏫᎢᏍᏗ ᎠᎹ ᎥᏝ",  # Cherokee
]
OTHERS = [
    "", " ", "  ", "\n", "\n\n\n", "\t\t x", " a", "a ", "a  b", "a   b    c", "\r\n\r\nx\r\n", "x \n y\n \nz", "  \n  \n", "a\u00a0b\u3000c\u2003d\u2028e\u0085f",
    "line one\nline two\n\n\nline five   \n", " " * 40 + "x" + " " * 70, "\n" * 33, "\t" * 20 + "end", "a" * 100, "ab" * 60, "!" * 50, "=" * 37 + ">",
    "int main(void)\n{\n    for (int i = 0; i < 10; i++)\n        printf(\"%d\\n\", x[i] += 0x1f);\n\treturn 0;\n}\n",
    "def f(x, *args, **kw):\n    return {k: v**2 for k, v in kw.items() if k != '__init__'}  # comment\n",
    "SELECT * FROM t WHERE a>=1.5e-3 AND b<>'it''s';", "<html><body class=\"x\">&nbsp;</body></html>", "https://example.org/a/b?c=d&e=%20#f",
    "{\"key\": [1, 2.50, null, true], \"é\": \"\\u00e9\"}", "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 ½ ² Ⅷ ٣",
    "I'M HE'LL THEY'VE we'D o'clock 'tis rock'n'roll 's ''s 'ſ", "don’t “quote” – dash — … ‰ € £ ¥ © ™",
    "😀 👍🏽 👨‍👩‍👧‍👦 🇫🇷🇯🇵 ❤️ ☕️ 🏳️‍🌈 1️⃣", "e\u0301 é \u0041\u030a Å ﬁ ﬂ ① ㎏ \u1e9b\u0323 \u0958 \uac00 \u1100\u1161", "z\u0300\u0301\u0302\u0303a\u0328\u0301",
    "\u200b\u200d\ufeff\u00ad\u202e", "\x00\x01\x1f\x7f\u0080\u009f", "\ufffd\ufffe\uffff\U0001f9ff\U000e0001\U0010ffff", "ǅ ß ẞ İ ı ﷺ 𝔘𝔫𝔦 𝟘𝟙 𐍈 𒀀",
    "MixedCASE camelCase snake_case kebab-case CONSTANT_CASE v1.2.3-rc4", "a.b,c;d:e!f?g(h)[i]{j}<k>/l\\m|n@o#p$q%r^s&t*u-v+w=x~y`z",
]
MALFORMED = [b"\xff", b"\xc3", b"abc\xc3\x28def", b"\xe4\xb8", b"ok \xe4\xb8\xad \xe4\xb8 end", b"\xf0\x9f\x98", b"\xc0\xaf\xed\xa0\x80\xf5\x80\x80\x80",
             b"\x80\x80\x80 x\xfe\xff\xfe\xffy", b" \xff \xff ", b"caf\xe9 na\xefve\n", b"12\xb23\xbf4", bytes(range(128, 256))]


def byte_alphabet():
    keep = list(range(0x21, 0x7f)) + list(range(0xa1, 0xad)) + list(range(0xae, 0x100))
    table, n = {}, 0
    for b in range(256):
        table[b] = chr(b) if b in keep else chr(256 + n)
        n += b not in keep
    return table


def stretches(data):
    """(well formed?, bytes) in turn"""
    out, i = [], 0
    while i < len(data):
        for n in (1, 2, 3, 4):
            try:
                data[i:i + n].decode()
                ok = i + n <= len(data)
                break
            except UnicodeDecodeError:
                ok = False
        n = n if ok else 1
        if out and out[-1][0] == ok:
            out[-1][1].extend(data[i:i + n])
        else:
            out.append([ok, bytearray(data[i:i + n])])
        i += n
    return out


def cases(tok, vocab, specials, texts):
    alphabet, out = byte_alphabet(), []
    missing = {b for b, c in alphabet.items() if c not in vocab}
    for text in texts:
        out.append({"text": text, "ids": tok.encode(text, add_special_tokens=False).ids})
    for text in specials + [" ".join(specials), "a" + "b".join(specials) + "c", "x \n" + specials[0] + " \n y"]:
        out.append({"text": text, "special": True, "ids": tok.encode(text, add_special_tokens=False).ids})
    for data in MALFORMED:
        ids = []
        for ok, part in stretches(data):
            if ok:
                ids += tok.encode(bytes(part).decode(), add_special_tokens=False).ids
            else:
                ids += [t.id for t in tok.model.tokenize("".join(alphabet[b] for b in part))]
        out.append({"hex": data.hex(), "ids": ids})
    tok.encode_special_tokens = True  # the same texts, spelling nothing
    for text in specials:
        out.append({"text": text, "ids": tok.encode(text, add_special_tokens=False).ids})
    tok.encode_special_tokens = False
    for c in out:
        raw = bytes.fromhex(c["hex"]) if "hex" in c else c["text"].encode()
        c["lossy"] = tok.normalizer is not None or any(b in missing for b in raw)
    return out


def write(name, value, indent=None):
    path = os.path.join(HERE, name)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=indent, separators=(",", ": ") if indent else (",", ":"))
        f.write("\n")
    assert os.path.getsize(path) < 400 * 1024, path
    print(path, os.path.getsize(path))


def train(name, pre, norm, added, size, bos):
    tok = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    tok.pre_tokenizer, tok.decoder = pre, decoders.ByteLevel()
    if norm:
        tok.normalizer = norm
    corpus = SCRIPTS + OTHERS + [open(__file__, encoding="utf-8").read()]
    tok.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, initial_alphabet=ByteLevel.alphabet(), show_progress=False))
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in added if isinstance(t, str)])
    tok.add_tokens([t for t in added if not isinstance(t, str)])
    if bos:
        tok.post_processor = processors.TemplateProcessing(single=bos + " $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tok.token_to_id(bos))])
    else:
        tok.post_processor = processors.ByteLevel(trim_offsets=False)
    path = os.path.join(HERE, name + ".tokenizer.json")
    tok.save(path, pretty=False)
    assert os.path.getsize(path) < 100 * 1024, path
    contents = [t if isinstance(t, str) else t.content for t in added]
    extra = [c + x for c in contents for x in ("", " x", "y")] + [x + " " + c for c in contents for x in ("a", "\n")]
    write(name + ".json", {"version": 1, "tokenizer": name + ".tokenizer.json", "bos": tok.encode("").ids, "cases": cases(tok, tok.get_vocab(), extra, SCRIPTS + OTHERS)})


def smollm2(models_dir):
    from gguf import GGUFReader

    fields = GGUFReader(os.path.join(models_dir, "smollm2.gguf")).fields
    get = lambda k: fields["tokenizer.ggml." + k].contents()
    tokens, types = get("tokens"), get("token_type")
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in get("merges")]))
    tok.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    specials = [t for t, k in zip(tokens, types) if k == 3]
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    write("smollm2.json", {"version": 1, "model": "smollm2.gguf", "cases": cases(tok, tok.get_vocab(), specials, SCRIPTS + OTHERS)})
    return fields["tokenizer.chat_template"].contents()


def chats(real):
    from transformers.utils.chat_template_utils import _compile_jinja_template

    with open(os.path.join(HERE, "templates.json"), encoding="utf-8") as f:
        templates = json.load(f)
    say = [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello é"}, {"role": "user", "content": "  trim me \n"}]
    kind = [{"role": "system", "content": "Be kind."}] + say
    tools = [{"type": "function", "function": {"name": "add", "description": "Adds \"two\" numbers", "parameters": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}}}]
    call = kind[:2] + [{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"x": 1.5, "deep": [True, None]}}}]},
                       {"role": "tool", "content": "3"}]
    base = {"bos_token": "<s>", "eos_token": "</s>"}
    varied = [dict(base, messages=say, add_generation_prompt=True), dict(base, messages=kind, add_generation_prompt=False), dict(base, messages=call, tools=tools, add_generation_prompt=True)]
    out = []
    for name, source in ([("smollm2", real)] if real else []) + sorted(templates.items()):
        for v in varied:
            try:
                case = {"name": name, "vars": v, "text": _compile_jinja_template(source).render(**v)}
            except Exception as e:  # raise_exception
                case = {"name": name, "vars": v, "error": str(e)}
            out.append(case)
    write("chats.json", {"version": 1, "model": "smollm2.gguf", "cases": out})


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("OUNCE_MODELS", os.path.expanduser("~/.cache/ounce/models"))
    split = lambda pattern: Sequence([Split(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])
    train("gpt2", ByteLevel(add_prefix_space=False), None,
          ["<|endoftext|>", AddedToken("[L]", lstrip=True, normalized=False), AddedToken("[R]", rstrip=True, normalized=False), AddedToken("word", single_word=True, normalized=False), "[LONG]", "[LONG][ER]"], 900, None)
    train("llama3", split(LLAMA3), None, ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], 1000, "<|begin_of_text|>")
    train("qwen2", split(QWEN2), normalizers.NFC(), ["<|endoftext|>", "<|im_start|>", "<|im_end|>", AddedToken("<tool_call>", normalized=False)], 900, None)
    chats(smollm2(folder) if os.path.exists(os.path.join(folder, "smollm2.gguf")) else None)


main()
