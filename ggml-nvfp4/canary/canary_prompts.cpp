#include "canary/canary_prompts.h"

namespace gnv::canary {

// Facts, explanations, arithmetic, code, lists, formats, translation, rewriting, classification and dialogue. Most say how long
// the answer may be, so that an answer that does not end is a sign. No prompt asks for repetition. Figures on cards are compared
// by the hash of the rendered prompts: a change of this list is a change for users.
static const char * const prompts[] = {
    "Name the three primary colours.",
    "What is the capital of Australia? Answer with one word.",
    "Explain in one sentence why the sky is blue.",
    "What is 17 * 24? Give only the result.",
    "A train travels 180 km in 2.5 hours. What is its average speed? Show one line of working.",
    "Write a Python function that returns the largest element of a list.",
    "Write a SQL query that counts the orders of each customer.",
    "What does `git stash` do? Answer in two sentences.",
    "Return a JSON object with the keys name and age for Alice, who is 30.",
    "List five fruits, one a line.",
    "Is the following review positive or negative? \"The battery died after two days.\" Answer with one word.",
    "Rewrite in a formal tone: hey, can u send me the report asap?",
    "Write a haiku about the sea.",
    "Summarize in one sentence: Photosynthesis lets plants turn light, water and carbon dioxide into sugar and oxygen.",
    "Fix the mistake: He don't like apples.",
    "Which is heavier, a kilogram of iron or a kilogram of feathers? Explain briefly.",
    "Give two arguments for and two against working from home, in four short lines.",
    "Write the C declaration of a function that takes two ints and returns their sum.",
    "Convert 72 degrees Fahrenheit to Celsius, to one decimal.",
    "Translate into French: Where is the nearest train station?",
    "I feel nervous before my exam tomorrow. What would you tell me, in two sentences?",
    "Was ist der Unterschied zwischen Wetter und Klima? Antworte in zwei S\u00e4tzen.",
    "Nenne drei deutsche Fl\u00fcsse.",
    "Explique en une phrase ce qu'est une \u00e9clipse de Lune.",
    "\u00bfCu\u00e1l es la capital de Per\u00fa? Responde en una frase.",
    "Qual \u00e8 il pianeta pi\u00f9 grande del sistema solare? Rispondi in una frase.",
    "Escreva uma frase sobre o inverno.",
    "Geef drie tips om beter te slapen, elk in een korte zin.",
    "Podaj trzy przyk\u0142ady zwierz\u0105t domowych.",
    "T\u00fcrkiye'nin ba\u015fkenti neresidir? Tek c\u00fcmleyle cevap ver.",
    "V\u00ec sao n\u01b0\u1edbc bi\u1ec3n m\u1eb7n? Tr\u1ea3 l\u1eddi b\u1eb1ng m\u1ed9t c\u00e2u.",
    "\u041d\u0430\u0437\u043e\u0432\u0438 \u0442\u0440\u0438 \u0432\u0440\u0435\u043c\u0435\u043d\u0438 "
    "\u0433\u043e\u0434\u0430, \u043a\u0440\u043e\u043c\u0435 \u0437\u0438\u043c\u044b.",
    "\u042f\u043a\u0430 \u0441\u0442\u043e\u043b\u0438\u0446\u044f "
    "\u0423\u043a\u0440\u0430\u0457\u043d\u0438?",
    "\u8bf7\u7528\u4e00\u53e5\u8bdd\u89e3\u91ca\u4ec0\u4e48\u662f\u91cd\u529b\u3002",
    "\u628a\u4e0b\u9762\u7684\u53e5\u5b50\u7ffb\u8bd1\u6210\u82f1\u6587\uff1a"
    "\u6211\u660e\u5929\u53bb\u56fe\u4e66\u9986\u3002",
    "\u65e5\u672c\u3067\u4e00\u756a\u9ad8\u3044\u5c71\u306f\u4f55\u3067\u3059\u304b\u3002"
    "\u4e00\u6587\u3067\u7b54\u3048\u3066\u304f\u3060\u3055\u3044\u3002",
    "\ubb3c\uc740 \uba87 \ub3c4\uc5d0\uc11c \ub053\ub098\uc694? \ud55c \ubb38\uc7a5\uc73c\ub85c "
    "\ub2f5\ud574 \uc8fc\uc138\uc694.",
    "\u0645\u0627 \u0647\u064a \u0639\u0627\u0635\u0645\u0629 \u0645\u0635\u0631\u061f "
    "\u0623\u062c\u0628 \u0628\u062c\u0645\u0644\u0629 \u0648\u0627\u062d\u062f\u0629.",
    "\u092d\u093e\u0930\u0924 \u0915\u0940 \u0930\u093e\u091c\u0927\u093e\u0928\u0940 "
    "\u0915\u094d\u092f\u093e \u0939\u0948? \u090f\u0915 \u0935\u093e\u0915\u094d\u092f "
    "\u092e\u0947\u0902 \u0909\u0924\u094d\u0924\u0930 \u0926\u0947\u0902\u0964",
    "Sebutkan dua manfaat membaca buku, masing-masing dalam satu kalimat.",
};

std::span<const char * const> fixed_prompts() { return prompts; }

} // namespace gnv::canary
